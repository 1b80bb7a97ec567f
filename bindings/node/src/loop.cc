#include "loop.h"

#include "error.h"
#include "instance.h"

// Dispatches in one turn of the loop, so that a busy box does not keep timers waiting.
static const int turn = 64;

// Whether JavaScript can run. Asks by a call that could run some, but does not: N-API has no
// question for it.
static bool runs_javascript(Napi::Env env)
{
    napi_value global, same;
    return napi_get_global(env, &global) == napi_ok &&
           napi_coerce_to_object(env, global, &same) == napi_ok;
}

// Lives until the loop has let go of the handle.
struct Loop::Poll {
    uv_poll_t handle;
    Loop *loop;
    std::shared_ptr<OpenHandles> open;
};

Loop::Loop(Napi::Env env, boxlite_runtime *runtime) : env_(env), runtime_(runtime) {}

std::shared_ptr<Loop> Loop::open(Napi::Env env, boxlite_runtime *runtime)
{
    std::shared_ptr<Loop> loop(new Loop(env, runtime));
    Instance &instance = Instance::of(env);
    uv_loop_t *uv;
    NAPI_THROW_IF_FAILED(env, napi_get_uv_event_loop(env, &uv), nullptr);

    auto poll = std::make_unique<Poll>();
    poll->loop = loop.get();
    poll->handle.data = poll.get();
    int status = uv_poll_init(uv, &poll->handle, boxlite_event_fd(runtime));
    if (status != 0)
        throw Napi::Error::New(env, std::string("uv_poll_init: ") + uv_strerror(status));
    poll->open = instance.handles;
    poll->open->opened();
    loop->poll_ = poll.release();
    instance.loops.insert(loop.get());

    uv_unref(reinterpret_cast<uv_handle_t *>(&loop->poll_->handle));
    uv_poll_start(&loop->poll_->handle, UV_READABLE, [](uv_poll_t *handle, int, int) {
        static_cast<Poll *>(handle->data)->loop->on_readable();
    });
    return loop;
}

Loop::~Loop()
{
    stop();
    boxlite_runtime_free(runtime_);
}

void Loop::stop() noexcept
{
    if (!poll_)
        return;
    Instance::of(env_).loops.erase(this);
    uv_close(reinterpret_cast<uv_handle_t *>(&std::exchange(poll_, nullptr)->handle),
             [](uv_handle_t *handle) {
                 std::unique_ptr<Poll> poll(static_cast<Poll *>(handle->data));
                 poll->open->closed();
             });
    // What is pending may own this loop.
    std::shared_ptr<Loop> keep = weak_from_this().lock();
    for (Pending *pending : std::exchange(pending_, {}))
        pending->abandon();
}

void Loop::add(Pending *pending)
{
    if (poll_ && pending_.insert(pending).second)
        uv_ref(reinterpret_cast<uv_handle_t *>(&poll_->handle));
}

void Loop::remove(Pending *pending)
{
    pending_.erase(pending);
    if (poll_ && pending_.empty())
        uv_unref(reinterpret_cast<uv_handle_t *>(&poll_->handle));
}

void Loop::on_readable() noexcept
{
    std::shared_ptr<Loop> keep = shared_from_this();
    try {
        dispatch();
    } catch (...) {
        // JavaScript cannot even be told.
        stop();
    }
}

void Loop::dispatch()
{
    Napi::HandleScope scope(env_);
    for (int i = 0; i < turn && poll_; i++) {
        // What would be dispatched could not be delivered; until Node ends the loop, the descriptor
        // would stay readable.
        if (!runs_javascript(env_)) {
            stop();
            return;
        }
        size_t left = 0;
        boxlite_error *error = nullptr;
        boxlite_status status = boxlite_dispatch(runtime_, 0, &left, &error);
        deliver_due();
        if (error) {
            Failure failure = Failure::of(error);
            boxlite_error_free(error);
            stop();
            napi_fatal_exception(env_, failure.to_js(env_).Value());
        }
        if (status != BOXLITE_OK || left == 0)
            return;
    }
}

// What is thrown keeps nobody else from being delivered. It is an uncaught exception, or ignored if
// JavaScript cannot run any more.
void Loop::deliver_due()
{
    for (Pending *pending : std::exchange(due_, {})) {
        try {
            pending->deliver();
        } catch (const Napi::Error &error) {
            napi_fatal_exception(env_, error.Value());
        } catch (const std::exception &error) {
            napi_fatal_exception(env_, Napi::Error::New(env_, error.what()).Value());
        }
    }
}

void run_callback(Napi::Env env, Napi::Object receiver, Napi::Function function,
                  std::initializer_list<napi_value> arguments)
{
    napi_status status = napi_make_callback(env, nullptr, receiver, function, arguments.size(),
                                            arguments.begin(), nullptr);
    napi_value thrown;
    if (status == napi_pending_exception &&
        napi_get_and_clear_last_exception(env, &thrown) == napi_ok)
        napi_fatal_exception(env, thrown);
}
