#include "bridge.h"
#include "_cgo_export.h"

static void destroy(void *user_data)
{
    goDestroy((uintptr_t)user_data);
}

static void on_complete(void *user_data, boxlite_op *op)
{
    (void)op;
    goOnComplete((uintptr_t)user_data);
}

static void on_progress(void *user_data, const boxlite_progress *progress)
{
    goOnProgress((uintptr_t)user_data, (boxlite_progress *)progress);
}

static void on_exit(void *user_data, int32_t code, int32_t signal, const boxlite_error *error)
{
    goOnExit((uintptr_t)user_data, code, signal, (boxlite_error *)error);
}

static void on_ready(void *user_data, int32_t stream)
{
    goOnReady((uintptr_t)user_data, stream);
}

static void on_event(void *user_data, const boxlite_event *event)
{
    goOnEvent((uintptr_t)user_data, (boxlite_event *)event);
}

boxlite_status bridge_op_on_complete(boxlite_op *op, uintptr_t handle, boxlite_error **error)
{
    return boxlite_op_on_complete(op, on_complete, (void *)handle, destroy, error);
}

boxlite_status bridge_op_on_progress(boxlite_op *op, uintptr_t handle, boxlite_error **error)
{
    return boxlite_op_on_progress(op, on_progress, (void *)handle, destroy, error);
}

boxlite_status bridge_exec_on_exit(boxlite_exec *exec, uintptr_t handle, boxlite_error **error)
{
    return boxlite_exec_on_exit(exec, on_exit, (void *)handle, destroy, error);
}

boxlite_status bridge_exec_on_ready(boxlite_exec *exec, uintptr_t handle, boxlite_error **error)
{
    return boxlite_exec_on_ready(exec, on_ready, (void *)handle, destroy, error);
}

boxlite_status bridge_runtime_subscribe(boxlite_runtime *runtime, uint32_t capacity, uintptr_t handle,
                                        boxlite_subscription **subscription, boxlite_error **error)
{
    return boxlite_runtime_subscribe(runtime, capacity, on_event, (void *)handle, destroy, subscription, error);
}
