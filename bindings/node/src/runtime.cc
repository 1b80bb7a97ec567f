#include "runtime.h"

#include "box.h"
#include "events.h"
#include "metrics.h"
#include "op.h"
#include "options.h"
#include "values.h"

Napi::Function Runtime::define(Napi::Env env)
{
    return DefineClass(env, "NativeRuntime",
                       {
                           InstanceMethod("create", &Runtime::create),
                           InstanceMethod("createFromDisk", &Runtime::create_from_disk),
                           InstanceMethod("import", &Runtime::import_from),
                           InstanceMethod("listFiles", &Runtime::list_files),
                           InstanceMethod("prune", &Runtime::prune),
                           InstanceMethod("get", &Runtime::get),
                           InstanceMethod("list", &Runtime::list),
                           InstanceMethod("remove", &Runtime::remove),
                           InstanceMethod("shutdown", &Runtime::shutdown),
                           InstanceMethod("subscribe", &Runtime::subscribe),
                           InstanceMethod("metrics", &Runtime::metrics),
                           InstanceMethod("metricsText", &Runtime::metrics_text),
                           InstanceMethod("poolReady", &Runtime::pool_ready),
                           InstanceMethod("counters", &Runtime::counters),
                           InstanceMethod("close", &Runtime::close),
                       });
}

// new Runtime(options)
Runtime::Runtime(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Runtime>(info)
{
    boxlite_runtime *runtime;
    RuntimeOptions options = runtime_options(info.Env(), info[0]);
    call(info.Env(), boxlite_runtime_open, options.get(), &runtime);
    loop_ = Loop::open(info.Env(), runtime);
}

boxlite_runtime *Runtime::handle()
{
    if (!loop_)
        throw closed(Env(), "runtime");
    return loop_->runtime();
}

// create(image, options, done)
Napi::Value Runtime::create(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    BoxOptions options = box_options(info.Env(), info[0], info[1]);
    call(info.Env(), boxlite_box_create, handle(), options.get(), &op);
    return wait_for(loop_, op, info[2].As<Napi::Function>(), Box::take);
}

// createFromDisk(path, format, options, done)
Napi::Value Runtime::create_from_disk(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    BoxOptions options = disk_box_options(info.Env(), info[0], info[1], info[2]);
    call(info.Env(), boxlite_box_create, handle(), options.get(), &op);
    return wait_for(loop_, op, info[3].As<Napi::Function>(), Box::take);
}

// listFiles(done)
Napi::Value Runtime::list_files(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_runtime_list_files, handle(), &op);
    return wait_for(loop_, op, info[0].As<Napi::Function>(), take_file_list);
}

// prune(dryRun, done)
Napi::Value Runtime::prune(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_runtime_prune, handle(), to_bool(info[0], "dryRun"), &op);
    return wait_for(loop_, op, info[1].As<Napi::Function>(), take_file_list);
}

// import(path, options, onProgress, done)
Napi::Value Runtime::import_from(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    std::string path = to_text(info[0], "path");
    ImportOptions options = import_options(info.Env(), info[1]);
    Napi::Function progress = to_function(info[2], "onProgress");
    call(info.Env(), boxlite_box_import, handle(), path.c_str(), options.get(), &op);
    return wait_for(loop_, op, info[3].As<Napi::Function>(), Box::take, progress);
}

// get(idOrName, done)
Napi::Value Runtime::get(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_box_get, handle(), to_text(info[0], "idOrName").c_str(), &op);
    return wait_for(loop_, op, info[1].As<Napi::Function>(), Box::take);
}

// list(filter, done)
Napi::Value Runtime::list(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    ListFilter filter = list_filter(info.Env(), info[0]);
    call(info.Env(), boxlite_box_list_matching, handle(), filter.get(), &op);
    return wait_for(loop_, op, info[1].As<Napi::Function>(), take_info_list);
}

// remove(idOrName, force, done)
Napi::Value Runtime::remove(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    std::string id_or_name = to_text(info[0], "idOrName");
    bool force = to_bool(info[1], "force");
    call(info.Env(), boxlite_box_remove, handle(), id_or_name.c_str(), force, &op);
    return wait_for(loop_, op, info[2].As<Napi::Function>(), take_nothing);
}

// shutdown(graceMs, done)
Napi::Value Runtime::shutdown(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    auto grace_ms = static_cast<uint32_t>(to_number(info[0], "graceMs", UINT32_MAX));
    call(info.Env(), boxlite_runtime_shutdown, handle(), grace_ms, &op);
    return wait_for(loop_, op, info[1].As<Napi::Function>(), take_nothing);
}

// subscribe(options)
Napi::Value Runtime::subscribe(const Napi::CallbackInfo &info)
{
    uint32_t capacity = event_capacity(info.Env(), info[0]);
    handle();
    return Subscription::make(loop_, capacity);
}

// metrics(done)
Napi::Value Runtime::metrics(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_runtime_metrics, handle(), &op);
    return wait_for(loop_, op, info[0].As<Napi::Function>(), take_runtime_metrics);
}

// metricsText(done)
Napi::Value Runtime::metrics_text(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_runtime_metrics_text, handle(), &op);
    return wait_for(loop_, op, info[0].As<Napi::Function>(), take_text);
}

// poolReady()
Napi::Value Runtime::pool_ready(const Napi::CallbackInfo &info)
{
    return Napi::Number::New(info.Env(), boxlite_runtime_pool_ready(handle()));
}

// counters()
Napi::Value Runtime::counters(const Napi::CallbackInfo &info)
{
    return counters_object(info.Env(), handle());
}

// What is told of an end may do anything, also close this again, or another subscription.
void Runtime::close(const Napi::CallbackInfo &)
{
    std::shared_ptr<Loop> loop = std::exchange(loop_, nullptr);
    while (loop && !loop->subscriptions.empty())
        (*loop->subscriptions.begin())->end();
}
