// A runtime's event descriptor on the environment's loop.
//
// Callbacks of the library never run JavaScript: they note what happened, and `deliver` runs it when
// the dispatch has returned. So no exception can travel through the library, and JavaScript may
// call anything, also process.exit().
//
// A worker may be told to terminate at any moment, also between two calls. From then on N-API calls
// that could run JavaScript fail, which throws, while libuv goes on calling until Node stops the
// loop. Nothing that is thrown may reach libuv, whose frames are C.
#pragma once

#include <boxlite.h>
#include <napi.h>
#include <uv.h>

#include <memory>
#include <set>
#include <vector>

class Instance;
class Subscription;
struct OpenHandles;

// Something that waits for a callback of the library.
class Pending {
  public:
    virtual ~Pending() = default;
    // A callback was called: pass it on to JavaScript.
    virtual void deliver() = 0;
    // The environment ends: let go of everything.
    virtual void abandon() noexcept = 0;
};

// Owned by all that came from the runtime. Only the environment's thread uses it.
class Loop : public std::enable_shared_from_this<Loop> {
  public:
    // Takes ownership of the runtime.
    static std::shared_ptr<Loop> open(Napi::Env env, boxlite_runtime *runtime);
    ~Loop();
    Loop(const Loop &) = delete;
    Loop &operator=(const Loop &) = delete;

    boxlite_runtime *runtime() const { return runtime_; }
    Napi::Env env() const { return env_; }

    // The process stays alive while somebody waits.
    void add(Pending *pending);
    void remove(Pending *pending);

    // For callbacks of the library: this one's `deliver` comes next.
    void due(Pending *pending) noexcept { due_.push_back(pending); }

    // Those that end when the runtime is closed.
    std::set<Subscription *> subscriptions;

    // Closes the handle: nothing is delivered any more.
    void stop() noexcept;

  private:
    struct Poll;

    Loop(Napi::Env env, boxlite_runtime *runtime);
    void on_readable() noexcept;
    void dispatch();
    void deliver_due();

    Napi::Env env_;
    boxlite_runtime *runtime_;
    Poll *poll_ = nullptr;
    std::set<Pending *> pending_;
    std::vector<Pending *> due_;
};

// Calls a function of JavaScript's from the loop. What it throws is an uncaught exception.
void run_callback(Napi::Env env, Napi::Object receiver, Napi::Function function,
                  std::initializer_list<napi_value> arguments);
