// The addon: what lib/ builds on. It knows no streams, promises or defaults.
#include "box.h"
#include "events.h"
#include "exec.h"
#include "instance.h"
#include "runtime.h"

// setErrorClass(BoxliteError): what errors are made with.
static void set_error_class(const Napi::CallbackInfo &info)
{
    Instance::of(info.Env()).error_class = Napi::Persistent(info[0].As<Napi::Function>());
}

static Napi::Object init(Napi::Env env, Napi::Object exports)
{
    auto *instance = new Instance(env);
    env.SetInstanceData(instance);
    instance->box_class = Napi::Persistent(Box::define(env));
    instance->exec_class = Napi::Persistent(Exec::define(env));
    instance->subscription_class = Napi::Persistent(Subscription::define(env));
    exports["Runtime"] = Runtime::define(env);
    exports["setErrorClass"] = Napi::Function::New(env, set_error_class);
    exports["version"] = boxlite_version();
    return exports;
}

NODE_API_MODULE(boxlite, init)
