// JavaScript objects as the library's options. What is not understood is refused.
#pragma once

#include <boxlite.h>
#include <napi.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "error.h"

using RuntimeOptions =
    std::unique_ptr<boxlite_runtime_options, Freed<boxlite_runtime_options_free>>;
using BoxOptions = std::unique_ptr<boxlite_box_options, Freed<boxlite_box_options_free>>;
using ExecOptions = std::unique_ptr<boxlite_exec_options, Freed<boxlite_exec_options_free>>;
using ExportOptions = std::unique_ptr<boxlite_export_options, Freed<boxlite_export_options_free>>;
using ImportOptions = std::unique_ptr<boxlite_import_options, Freed<boxlite_import_options_free>>;
using ListFilter = std::unique_ptr<boxlite_list_filter, Freed<boxlite_list_filter_free>>;

// What boxlite_box_clone() takes: as many clones as there are names, of which each may be none, or as
// many as `count` says.
struct CloneOptions {
    std::optional<std::string> snapshot;
    std::optional<std::vector<std::optional<std::string>>> names;
    std::optional<uint32_t> count;
};

RuntimeOptions runtime_options(Napi::Env env, Napi::Value object);
BoxOptions box_options(Napi::Env env, Napi::Value image, Napi::Value object);
BoxOptions disk_box_options(Napi::Env env, Napi::Value path, Napi::Value format, Napi::Value object);
ExecOptions exec_options(Napi::Env env, Napi::Value argv, Napi::Value object);
ExportOptions export_options(Napi::Env env, Napi::Value object);
ImportOptions import_options(Napi::Env env, Napi::Value object);
ListFilter list_filter(Napi::Env env, Napi::Value object);
// Of one clone, and of several.
CloneOptions clone_options(Napi::Env env, Napi::Value object);
CloneOptions clones_options(Napi::Env env, Napi::Value object);
uint32_t event_capacity(Napi::Env env, Napi::Value object);

// Beyond this a number of JavaScript's is not exact.
const uint64_t exact_max = (uint64_t{1} << 53) - 1;

// One value; `name` is for the error.
std::string to_text(Napi::Value value, const std::string &name);
uint64_t to_number(Napi::Value value, const std::string &name, uint64_t max);
bool to_bool(Napi::Value value, const std::string &name);
// An empty one of undefined.
Napi::Function to_function(Napi::Value value, const std::string &name);
