// What the library tells, as JavaScript values: results of operations, and counters.
#pragma once

#include "loop.h"

Napi::Value take_info(const std::shared_ptr<Loop> &loop, boxlite_op *op);
Napi::Value take_info_list(const std::shared_ptr<Loop> &loop, boxlite_op *op);
Napi::Value take_exec_list(const std::shared_ptr<Loop> &loop, boxlite_op *op);
Napi::Value take_output(const std::shared_ptr<Loop> &loop, boxlite_op *op);

Napi::Value counters_object(Napi::Env env, const boxlite_runtime *runtime);
