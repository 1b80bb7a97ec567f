// A handle on a command in a box.
#pragma once

#include "error.h"
#include "loop.h"

// JavaScript sets its property `onready`, a function that is called with the number of a stream on
// which a read or a write had to wait, and need not any more.
class Exec : public Napi::ObjectWrap<Exec>, public Pending {
  public:
    static Napi::Function define(Napi::Env env);
    static Napi::Value take(const std::shared_ptr<Loop> &loop, boxlite_op *op);
    explicit Exec(const Napi::CallbackInfo &info);

    void deliver() override;
    void abandon() noexcept override;

  private:
    struct Exit {
        int32_t code;
        int32_t signal;
        std::optional<Failure> failure;
    };

    Napi::Value id(const Napi::CallbackInfo &info);
    Napi::Value offset(const Napi::CallbackInfo &info);
    Napi::Value lost(const Napi::CallbackInfo &info);
    Napi::Value read(const Napi::CallbackInfo &info);
    Napi::Value write(const Napi::CallbackInfo &info);
    void drop(const Napi::CallbackInfo &info);
    void close_stdin(const Napi::CallbackInfo &info);
    void wait(const Napi::CallbackInfo &info);
    Napi::Value signal(const Napi::CallbackInfo &info);

    void would_block(boxlite_status status, boxlite_error *error, int32_t stream);
    void deliver_exit();
    void set_waiting(unsigned what, bool waiting);

    std::shared_ptr<Loop> loop_;
    std::unique_ptr<boxlite_exec, Freed<boxlite_exec_free>> exec_;

    // What JavaScript waits for, as bits: the streams by their numbers, and the exit. It keeps the
    // object and the process alive.
    unsigned waiting_ = 0;

    // What callbacks of the library have noted.
    unsigned ready_ = 0;
    std::optional<Exit> exit_;

    Napi::FunctionReference on_exit_;
};
