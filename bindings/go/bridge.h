// Callbacks cross between C and Go as numbers: a runtime/cgo.Handle is no pointer, and the user
// data that the library keeps is no pointer of Go's.
#ifndef BOXLITE_GO_BRIDGE_H
#define BOXLITE_GO_BRIDGE_H

#include <boxlite.h>

boxlite_status bridge_op_on_complete(boxlite_op *op, uintptr_t handle, boxlite_error **error);
boxlite_status bridge_op_on_progress(boxlite_op *op, uintptr_t handle, boxlite_error **error);
boxlite_status bridge_exec_on_exit(boxlite_exec *exec, uintptr_t handle, boxlite_error **error);
boxlite_status bridge_exec_on_ready(boxlite_exec *exec, uintptr_t handle, boxlite_error **error);
boxlite_status bridge_runtime_subscribe(boxlite_runtime *runtime, uint32_t capacity, uintptr_t handle,
                                        boxlite_subscription **subscription, boxlite_error **error);

#endif
