#include "instance.h"

#include "loop.h"

void OpenHandles::opened()
{
    count++;
}

void OpenHandles::closed() noexcept
{
    count--;
    if (cleanup && count == 0)
        napi_remove_async_cleanup_hook(cleanup);
}

Instance::Instance(Napi::Env env) : scratch(65536)
{
    auto hook = [](napi_async_cleanup_hook_handle handle, void *data) {
        static_cast<Instance *>(data)->clean_up(handle);
    };
    napi_status status = napi_add_async_cleanup_hook(env, hook, this, nullptr);
    NAPI_THROW_IF_FAILED_VOID(env, status);
}

Instance &Instance::of(Napi::Env env)
{
    return *env.GetInstanceData<Instance>();
}

// The environment ends when the loop has let go of every handle.
void Instance::clean_up(napi_async_cleanup_hook_handle handle) noexcept
{
    while (!loops.empty())
        (*loops.begin())->stop();
    if (handles->count == 0)
        napi_remove_async_cleanup_hook(handle);
    else
        handles->cleanup = handle;
}
