// What operations result in, as JavaScript values.
#pragma once

#include "loop.h"

Napi::Value take_info(const std::shared_ptr<Loop> &loop, boxlite_op *op);
Napi::Value take_info_list(const std::shared_ptr<Loop> &loop, boxlite_op *op);
Napi::Value take_output(const std::shared_ptr<Loop> &loop, boxlite_op *op);
