// What the library tells, as JavaScript values: results of operations, and counters.
#pragma once

#include "loop.h"

Napi::Value take_info(const std::shared_ptr<Loop> &loop, boxlite_op *op);
Napi::Value take_info_list(const std::shared_ptr<Loop> &loop, boxlite_op *op);
Napi::Value take_exec_list(const std::shared_ptr<Loop> &loop, boxlite_op *op);
// null if there is none.
Napi::Value take_snapshot(const std::shared_ptr<Loop> &loop, boxlite_op *op);
Napi::Value take_snapshot_list(const std::shared_ptr<Loop> &loop, boxlite_op *op);
Napi::Value take_file_list(const std::shared_ptr<Loop> &loop, boxlite_op *op);
Napi::Value take_output(const std::shared_ptr<Loop> &loop, boxlite_op *op);

Napi::Value counters_object(Napi::Env env, const boxlite_runtime *runtime);

// What values are made of. A code is null if it is negative: there was none.
Napi::Value text_or_null(Napi::Env env, const char *text);
Napi::Value number(Napi::Env env, uint64_t value);
Napi::Value code_or_null(Napi::Env env, int32_t code);
