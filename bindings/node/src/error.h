// The library's errors, as C++ and as JavaScript know them.
#pragma once

#include <boxlite.h>
#include <napi.h>

#include <optional>
#include <string>

// What an error says, kept beyond the error's own life.
struct Failure {
    boxlite_status status;
    std::string message;
    std::optional<std::string> object;
    int32_t error_number;
    bool retryable;

    static Failure of(const boxlite_error *error);

    // A BoxliteError.
    Napi::Error to_js(Napi::Env env) const;
};

// An argument that JavaScript got wrong, named `object`.
Napi::Error invalid_argument(Napi::Env env, const std::string &object, const std::string &what);

// A handle that was closed.
Napi::Error closed(Napi::Env env, const char *what);

// Calls a function of the library whose last parameter takes an error, and throws that.
template <typename F, typename... A> void call(Napi::Env env, F function, A... arguments)
{
    boxlite_error *error = nullptr;
    if (function(arguments..., &error) == BOXLITE_OK)
        return;
    Failure failure = Failure::of(error);
    boxlite_error_free(error);
    throw failure.to_js(env);
}

// Frees a handle of the library's; for std::unique_ptr.
template <auto Free> struct Freed {
    template <typename T> void operator()(T *handle) const
    {
        Free(handle);
    }
};
