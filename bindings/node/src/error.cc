#include "error.h"

#include "instance.h"

Failure Failure::of(const boxlite_error *error)
{
    const char *object = boxlite_error_object(error);
    return {
        boxlite_error_code(error),
        boxlite_error_message(error),
        object ? std::optional<std::string>(object) : std::nullopt,
        boxlite_error_errno(error),
        boxlite_error_is_retryable(error),
    };
}

Napi::Error Failure::to_js(Napi::Env env) const
{
    Napi::Object details = Napi::Object::New(env);
    details["code"] = boxlite_status_name(status);
    details["status"] = Napi::Number::New(env, status);
    details["retryable"] = Napi::Boolean::New(env, retryable);
    if (object)
        details["object"] = *object;
    if (error_number != 0)
        details["errno"] = Napi::Number::New(env, error_number);
    Napi::Function constructor = Instance::of(env).error_class.Value();
    return Napi::Error(env, constructor.New({Napi::String::New(env, message), details}));
}

Napi::Error invalid_argument(Napi::Env env, const std::string &object, const std::string &what)
{
    return Failure{BOXLITE_INVALID_ARGUMENT, object + ": " + what, object, 0, false}.to_js(env);
}

Napi::Error closed(Napi::Env env, const char *what)
{
    std::string message = std::string("the ") + what + " was closed";
    return Failure{BOXLITE_INVALID_STATE, message, std::nullopt, 0, false}.to_js(env);
}
