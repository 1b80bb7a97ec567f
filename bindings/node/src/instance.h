// What the addon keeps for one environment: the main thread, or a worker.
#pragma once

#include <napi.h>
#include <node_api.h>

#include <memory>
#include <set>
#include <vector>

class Loop;

// How many of our handles are open on an environment's loop. Outlives the environment's own data.
struct OpenHandles {
    size_t count = 0;
    napi_async_cleanup_hook_handle cleanup = nullptr;

    void opened();
    void closed() noexcept;
};

class Instance {
  public:
    explicit Instance(Napi::Env env);
    static Instance &of(Napi::Env env);

    Napi::FunctionReference error_class;
    Napi::FunctionReference box_class;
    Napi::FunctionReference exec_class;
    Napi::FunctionReference subscription_class;

    // The open runtimes' loops.
    std::set<Loop *> loops;
    std::shared_ptr<OpenHandles> handles = std::make_shared<OpenHandles>();

    // Where output is read to before its length is known.
    std::vector<uint8_t> scratch;

  private:
    void clean_up(napi_async_cleanup_hook_handle handle) noexcept;
};
