#include "box.h"

#include "exec.h"
#include "instance.h"
#include "metrics.h"
#include "op.h"
#include "values.h"

namespace {

// What the constructor gets. Frees the handle if the constructor is never called.
struct Taken {
    std::shared_ptr<Loop> loop;
    std::unique_ptr<boxlite_box, Freed<boxlite_box_free>> box;
};

} // namespace

Napi::Function Box::define(Napi::Env env)
{
    return DefineClass(env, "NativeBox",
                       {
                           InstanceAccessor("id", &Box::id, nullptr),
                           InstanceAccessor("name", &Box::name, nullptr),
                           InstanceMethod("start", &Box::start),
                           InstanceMethod("stop", &Box::stop),
                           InstanceMethod("pause", &Box::pause),
                           InstanceMethod("resume", &Box::resume),
                           InstanceMethod("inspect", &Box::inspect),
                           InstanceMethod("metrics", &Box::metrics),
                           InstanceMethod("listExecs", &Box::list_execs),
                           InstanceMethod("createSnapshot", &Box::create_snapshot),
                           InstanceMethod("listSnapshots", &Box::list_snapshots),
                           InstanceMethod("getSnapshot", &Box::get_snapshot),
                           InstanceMethod("restoreSnapshot", &Box::restore_snapshot),
                           InstanceMethod("removeSnapshot", &Box::remove_snapshot),
                           InstanceMethod("clone", &Box::clone),
                           InstanceMethod("clones", &Box::clones),
                           InstanceMethod("growDisk", &Box::grow_disk),
                           InstanceMethod("export", &Box::export_to),
                           InstanceMethod("attach", &Box::attach),
                           InstanceMethod("attachMain", &Box::attach_main),
                           InstanceMethod("exec", &Box::exec),
                           InstanceMethod("run", &Box::run),
                           InstanceMethod("close", &Box::close),
                       });
}

Napi::Value Box::take(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    boxlite_box *box;
    call(loop->env(), boxlite_op_take_box, op, &box);
    return make(loop, box);
}

Napi::Value Box::take_all(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    Napi::Array boxes = Napi::Array::New(loop->env());
    boxes[0u] = take(loop, op);
    boxlite_box *box;
    while (boxlite_op_take_box(op, &box, nullptr) == BOXLITE_OK)
        boxes[boxes.Length()] = make(loop, box);
    return boxes;
}

Napi::Value Box::make(const std::shared_ptr<Loop> &loop, boxlite_box *box)
{
    Napi::Env env = loop->env();
    Taken taken{loop, decltype(Taken::box)(box)};
    return Instance::of(env).box_class.New({Napi::External<Taken>::New(env, &taken)});
}

Box::Box(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Box>(info)
{
    if (!info[0].IsExternal())
        throw Napi::TypeError::New(info.Env(), "a box comes from a runtime");
    Taken *taken = info[0].As<Napi::External<Taken>>().Data();
    loop_ = taken->loop;
    box_ = std::move(taken->box);
}

boxlite_box *Box::handle()
{
    if (!box_)
        throw closed(Env(), "box");
    return box_.get();
}

Napi::Value Box::id(const Napi::CallbackInfo &info)
{
    return Napi::String::New(info.Env(), boxlite_box_id(handle()));
}

Napi::Value Box::name(const Napi::CallbackInfo &info)
{
    const char *name = boxlite_box_name(handle());
    return name ? Napi::Value(Napi::String::New(info.Env(), name)) : info.Env().Null();
}

// start(done)
Napi::Value Box::start(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_box_start, handle(), &op);
    return wait_for(loop_, op, info[0].As<Napi::Function>(), take_nothing);
}

// stop(graceMs, done)
Napi::Value Box::stop(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    auto grace_ms = static_cast<uint32_t>(to_number(info[0], "graceMs", UINT32_MAX));
    call(info.Env(), boxlite_box_stop, handle(), grace_ms, &op);
    return wait_for(loop_, op, info[1].As<Napi::Function>(), take_nothing);
}

// pause(done)
Napi::Value Box::pause(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_box_pause, handle(), &op);
    return wait_for(loop_, op, info[0].As<Napi::Function>(), take_nothing);
}

// resume(done)
Napi::Value Box::resume(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_box_resume, handle(), &op);
    return wait_for(loop_, op, info[0].As<Napi::Function>(), take_nothing);
}

// inspect(done)
Napi::Value Box::inspect(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_box_inspect, handle(), &op);
    return wait_for(loop_, op, info[0].As<Napi::Function>(), take_info);
}

// metrics(done)
Napi::Value Box::metrics(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_box_metrics, handle(), &op);
    return wait_for(loop_, op, info[0].As<Napi::Function>(), take_box_metrics);
}

// listExecs(done)
Napi::Value Box::list_execs(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_box_list_execs, handle(), &op);
    return wait_for(loop_, op, info[0].As<Napi::Function>(), take_exec_list);
}

// createSnapshot(name, done)
Napi::Value Box::create_snapshot(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_box_snapshot_create, handle(), to_text(info[0], "name").c_str(), &op);
    return wait_for(loop_, op, info[1].As<Napi::Function>(), take_snapshot);
}

// listSnapshots(done)
Napi::Value Box::list_snapshots(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_box_snapshot_list, handle(), &op);
    return wait_for(loop_, op, info[0].As<Napi::Function>(), take_snapshot_list);
}

// getSnapshot(name, done)
Napi::Value Box::get_snapshot(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_box_snapshot_get, handle(), to_text(info[0], "name").c_str(), &op);
    return wait_for(loop_, op, info[1].As<Napi::Function>(), take_snapshot);
}

// restoreSnapshot(name, done)
Napi::Value Box::restore_snapshot(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_box_snapshot_restore, handle(), to_text(info[0], "name").c_str(), &op);
    return wait_for(loop_, op, info[1].As<Napi::Function>(), take_nothing);
}

// removeSnapshot(name, done)
Napi::Value Box::remove_snapshot(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    call(info.Env(), boxlite_box_snapshot_remove, handle(), to_text(info[0], "name").c_str(), &op);
    return wait_for(loop_, op, info[1].As<Napi::Function>(), take_nothing);
}

// clone(options, done)
Napi::Value Box::clone(const Napi::CallbackInfo &info)
{
    boxlite_op *op = start_cloning(clone_options(info.Env(), info[0]));
    return wait_for(loop_, op, info[1].As<Napi::Function>(), take);
}

// clones(options, done)
Napi::Value Box::clones(const Napi::CallbackInfo &info)
{
    boxlite_op *op = start_cloning(clones_options(info.Env(), info[0]));
    return wait_for(loop_, op, info[1].As<Napi::Function>(), take_all);
}

boxlite_op *Box::start_cloning(const CloneOptions &options)
{
    std::vector<const char *> names;
    if (options.names)
        for (const std::optional<std::string> &name : *options.names)
            names.push_back(name ? name->c_str() : nullptr);
    const char *snapshot = options.snapshot ? options.snapshot->c_str() : nullptr;
    size_t count = options.names ? names.size() : options.count.value_or(0);
    boxlite_op *op;
    call(Env(), boxlite_box_clone, handle(), snapshot, names.empty() ? nullptr : names.data(), count,
         &op);
    return op;
}

// growDisk(sizeMib, done)
Napi::Value Box::grow_disk(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    uint64_t size_mib = to_number(info[0], "sizeMib", exact_max);
    call(info.Env(), boxlite_box_grow_disk, handle(), size_mib, &op);
    return wait_for(loop_, op, info[1].As<Napi::Function>(), take_nothing);
}

// export(path, options, onProgress, done)
Napi::Value Box::export_to(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    std::string path = to_text(info[0], "path");
    ExportOptions options = export_options(info.Env(), info[1]);
    Napi::Function progress = to_function(info[2], "onProgress");
    call(info.Env(), boxlite_box_export, handle(), path.c_str(), options.get(), &op);
    return wait_for(loop_, op, info[3].As<Napi::Function>(), take_text, progress);
}

// attach(id, stdoutFrom, stderrFrom, done)
Napi::Value Box::attach(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    auto id = static_cast<uint32_t>(to_number(info[0], "id", UINT32_MAX));
    uint64_t stdout_from = to_number(info[1], "stdoutFrom", exact_max);
    uint64_t stderr_from = to_number(info[2], "stderrFrom", exact_max);
    call(info.Env(), boxlite_box_attach, handle(), id, stdout_from, stderr_from, &op);
    return wait_for(loop_, op, info[3].As<Napi::Function>(), Exec::take);
}

// attachMain(stdoutFrom, stderrFrom, done)
Napi::Value Box::attach_main(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    uint64_t stdout_from = to_number(info[0], "stdoutFrom", exact_max);
    uint64_t stderr_from = to_number(info[1], "stderrFrom", exact_max);
    call(info.Env(), boxlite_box_attach_main, handle(), stdout_from, stderr_from, &op);
    return wait_for(loop_, op, info[2].As<Napi::Function>(), Exec::take);
}

// exec(argv, options, done)
Napi::Value Box::exec(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    ExecOptions options = exec_options(info.Env(), info[0], info[1]);
    call(info.Env(), boxlite_box_exec, handle(), options.get(), &op);
    return wait_for(loop_, op, info[2].As<Napi::Function>(), Exec::take);
}

// run(argv, options, limit, done)
Napi::Value Box::run(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    ExecOptions options = exec_options(info.Env(), info[0], info[1]);
    size_t limit = to_number(info[2], "limit", exact_max);
    call(info.Env(), boxlite_box_run, handle(), options.get(), limit, &op);
    return wait_for(loop_, op, info[3].As<Napi::Function>(), take_output);
}

void Box::close(const Napi::CallbackInfo &)
{
    box_.reset();
    loop_.reset();
}
