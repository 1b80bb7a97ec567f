// Operations of the library, for JavaScript to make promises of.
#pragma once

#include "loop.h"

// Starts waiting for an operation. `done` is called once from the loop: (error) or (null, result).
// Before that, `progress` is called with how far it is, unless it is empty or the operation was
// cancelled: with the latest, where several steps come at once. Takes ownership of the operation; `take`
// makes a JavaScript value of its result. Returns a function that cancels it.
Napi::Value wait_for(std::shared_ptr<Loop> loop, boxlite_op *op, Napi::Function done,
                     Napi::Value (*take)(const std::shared_ptr<Loop> &loop, boxlite_op *op),
                     Napi::Function progress = Napi::Function());

// For operations without a result.
Napi::Value take_nothing(const std::shared_ptr<Loop> &loop, boxlite_op *op);
