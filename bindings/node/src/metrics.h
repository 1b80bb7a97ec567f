// Metrics, as JavaScript values: results of operations.
#pragma once

#include "loop.h"

Napi::Value take_runtime_metrics(const std::shared_ptr<Loop> &loop, boxlite_op *op);
Napi::Value take_box_metrics(const std::shared_ptr<Loop> &loop, boxlite_op *op);
Napi::Value take_text(const std::shared_ptr<Loop> &loop, boxlite_op *op);
