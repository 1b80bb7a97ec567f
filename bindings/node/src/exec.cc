#include "exec.h"

#include "instance.h"
#include "op.h"
#include "options.h"

namespace {

// What the constructor gets. Frees the handle if the constructor is never called.
struct Taken {
    std::shared_ptr<Loop> loop;
    std::unique_ptr<boxlite_exec, Freed<boxlite_exec_free>> exec;
};

const int32_t streams[] = {BOXLITE_STDIN, BOXLITE_STDOUT, BOXLITE_STDERR};
const unsigned the_exit = 1u << 3;

unsigned bit(int32_t stream)
{
    return 1u << stream;
}

} // namespace

Napi::Function Exec::define(Napi::Env env)
{
    return DefineClass(env, "NativeExec",
                       {
                           InstanceAccessor("id", &Exec::id, nullptr),
                           InstanceMethod("offset", &Exec::offset),
                           InstanceMethod("lost", &Exec::lost),
                           InstanceMethod("read", &Exec::read),
                           InstanceMethod("write", &Exec::write),
                           InstanceMethod("drop", &Exec::drop),
                           InstanceMethod("closeStdin", &Exec::close_stdin),
                           InstanceMethod("wait", &Exec::wait),
                           InstanceMethod("signal", &Exec::signal),
                       });
}

Napi::Value Exec::take(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    Napi::Env env = loop->env();
    boxlite_exec *exec;
    call(env, boxlite_op_take_exec, op, &exec);
    Taken taken{loop, decltype(Taken::exec)(exec)};
    return Instance::of(env).exec_class.New({Napi::External<Taken>::New(env, &taken)});
}

// The callbacks' user data is the object itself, whose end frees the handle, after which the
// library calls nothing.
Exec::Exec(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Exec>(info)
{
    if (!info[0].IsExternal())
        throw Napi::TypeError::New(info.Env(), "an exec comes from a box");
    Taken *taken = info[0].As<Napi::External<Taken>>().Data();
    loop_ = taken->loop;
    exec_ = std::move(taken->exec);
    auto on_ready = [](void *data, int32_t stream) noexcept {
        auto *exec = static_cast<Exec *>(data);
        exec->ready_ |= bit(stream);
        exec->loop_->due(exec);
    };
    call(info.Env(), boxlite_exec_on_ready, exec_.get(), +on_ready, static_cast<void *>(this),
         boxlite_destroy{});
}

Napi::Value Exec::id(const Napi::CallbackInfo &info)
{
    return Napi::Number::New(info.Env(), boxlite_exec_id(exec_.get()));
}

// offset(stream): of the byte that is read next.
Napi::Value Exec::offset(const Napi::CallbackInfo &info)
{
    uint64_t offset = boxlite_exec_offset(exec_.get(), info[0].As<Napi::Number>());
    return Napi::Number::New(info.Env(), static_cast<double>(offset));
}

// lost(stream): how many bytes were gone when they would have been read.
Napi::Value Exec::lost(const Napi::CallbackInfo &info)
{
    uint64_t lost = boxlite_exec_lost(exec_.get(), info[0].As<Napi::Number>());
    return Napi::Number::New(info.Env(), static_cast<double>(lost));
}

// read(stream): a Buffer; null at the end; false where bytes are gone, which `lost` counts;
// undefined if there is nothing now.
Napi::Value Exec::read(const Napi::CallbackInfo &info)
{
    Napi::Env env = info.Env();
    std::vector<uint8_t> &scratch = Instance::of(env).scratch;
    int32_t stream = info[0].As<Napi::Number>();
    size_t length;
    boxlite_error *error;
    boxlite_status status = boxlite_exec_read(exec_.get(), stream, scratch.data(), scratch.size(),
                                              &length, &error);
    if (status == BOXLITE_OK)
        return length ? Napi::Value(Napi::Buffer<uint8_t>::Copy(env, scratch.data(), length))
                      : env.Null();
    if (status == BOXLITE_GAP) {
        boxlite_error_free(error);
        return Napi::Boolean::New(env, false);
    }
    would_block(status, error, stream);
    return env.Undefined();
}

// write(buffer, offset): how many bytes were taken; 0 if none are now.
Napi::Value Exec::write(const Napi::CallbackInfo &info)
{
    Napi::Env env = info.Env();
    auto buffer = info[0].As<Napi::Buffer<uint8_t>>();
    size_t offset = to_number(info[1], "offset", buffer.Length());
    size_t written = 0;
    boxlite_error *error;
    boxlite_status status = boxlite_exec_write(exec_.get(), buffer.Data() + offset,
                                               buffer.Length() - offset, &written, &error);
    if (status != BOXLITE_OK)
        would_block(status, error, BOXLITE_STDIN);
    return Napi::Number::New(env, static_cast<double>(written));
}

// Waits for a stream on which a call had to wait. Throws what else the call failed of.
void Exec::would_block(boxlite_status status, boxlite_error *error, int32_t stream)
{
    Failure failure = Failure::of(error);
    boxlite_error_free(error);
    if (status != BOXLITE_WOULD_BLOCK)
        throw failure.to_js(Env());
    set_waiting(bit(stream), true);
}

// drop(stream): nobody will read it any more.
void Exec::drop(const Napi::CallbackInfo &info)
{
    int32_t stream = info[0].As<Napi::Number>();
    call(info.Env(), boxlite_exec_discard, exec_.get(), stream);
    set_waiting(bit(stream), false);
}

void Exec::close_stdin(const Napi::CallbackInfo &info)
{
    call(info.Env(), boxlite_exec_close_stdin, exec_.get());
    set_waiting(bit(BOXLITE_STDIN), false);
}

// wait(done), once: done(error, code, signal).
void Exec::wait(const Napi::CallbackInfo &info)
{
    auto on_exit = [](void *data, int32_t code, int32_t signal,
                      const boxlite_error *error) noexcept {
        auto *exec = static_cast<Exec *>(data);
        exec->exit_ = Exit{code, signal, std::nullopt};
        if (error)
            exec->exit_->failure = Failure::of(error);
        exec->loop_->due(exec);
    };
    on_exit_ = Napi::Persistent(info[0].As<Napi::Function>());
    call(info.Env(), boxlite_exec_on_exit, exec_.get(), +on_exit, static_cast<void *>(this),
         boxlite_destroy{});
    set_waiting(the_exit, true);
}

// signal(number, done)
Napi::Value Exec::signal(const Napi::CallbackInfo &info)
{
    boxlite_op *op;
    auto number = static_cast<int32_t>(to_number(info[0], "signal", INT32_MAX));
    call(info.Env(), boxlite_exec_signal, exec_.get(), number, &op);
    return wait_for(loop_, op, info[1].As<Napi::Function>(), take_nothing);
}

void Exec::set_waiting(unsigned what, bool waiting)
{
    unsigned before = std::exchange(waiting_, waiting ? waiting_ | what : waiting_ & ~what);
    if (!before && waiting_) {
        Ref();
        loop_->add(this);
    } else if (before && !waiting_) {
        loop_->remove(this);
        Unref();
    }
}

void Exec::deliver()
{
    Napi::Env env = Env();
    // Keeps the object while it is called.
    Napi::Object self = Value();
    unsigned ready = std::exchange(ready_, 0);
    set_waiting(ready, false);
    for (int32_t stream : streams) {
        if (ready & bit(stream))
            run_callback(env, self, self.Get("onready").As<Napi::Function>(),
                         {Napi::Number::New(env, stream)});
    }
    if (exit_)
        deliver_exit();
}

void Exec::deliver_exit()
{
    Napi::Env env = Env();
    Exit exit = *std::exchange(exit_, std::nullopt);
    Napi::Function done = on_exit_.Value();
    on_exit_.Reset();
    set_waiting(the_exit, false);
    napi_value error = exit.failure ? exit.failure->to_js(env).Value() : env.Null();
    run_callback(env, Value(), done,
                 {error, Napi::Number::New(env, exit.code), Napi::Number::New(env, exit.signal)});
}

// The object's own end frees the handle. A reference's destructor does not throw; its Reset() may.
void Exec::abandon() noexcept
{
    Napi::FunctionReference dropped = std::move(on_exit_);
}
