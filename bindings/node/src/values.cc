#include "values.h"

#include "error.h"

namespace {

using Info = std::unique_ptr<boxlite_box_info, Freed<boxlite_box_info_free>>;
using InfoList = std::unique_ptr<boxlite_info_list, Freed<boxlite_info_list_free>>;
using ExecList = std::unique_ptr<boxlite_exec_list, Freed<boxlite_exec_list_free>>;
using Snapshot = std::unique_ptr<boxlite_snapshot, Freed<boxlite_snapshot_free>>;
using SnapshotList = std::unique_ptr<boxlite_snapshot_list, Freed<boxlite_snapshot_list_free>>;
using FileList = std::unique_ptr<boxlite_file_list, Freed<boxlite_file_list_free>>;
using Output = std::unique_ptr<boxlite_output, Freed<boxlite_output_free>>;

const char *boot_name(int32_t boot)
{
    switch (boot) {
    case BOXLITE_BOOT_COLD: return "cold";
    case BOXLITE_BOOT_RESTORED: return "restored";
    case BOXLITE_BOOT_POOLED: return "pooled";
    default: return nullptr;
    }
}

const char *health_name(int32_t health)
{
    switch (health) {
    case BOXLITE_HEALTH_STARTING: return "starting";
    case BOXLITE_HEALTH_HEALTHY: return "healthy";
    case BOXLITE_HEALTH_UNHEALTHY: return "unhealthy";
    default: return nullptr;
    }
}

const char *main_status_name(int32_t status)
{
    switch (status) {
    case BOXLITE_MAIN_RUNNING: return "running";
    case BOXLITE_MAIN_EXITED: return "exited";
    case BOXLITE_MAIN_LOST: return "lost";
    default: return nullptr;
    }
}

Napi::Value main_object(Napi::Env env, const boxlite_box_info *info)
{
    const char *status = main_status_name(boxlite_box_info_main_status(info));
    if (!status)
        return env.Null();
    Napi::Object object = Napi::Object::New(env);
    object["status"] = status;
    object["code"] = code_or_null(env, boxlite_box_info_main_code(info));
    object["signal"] = Napi::Number::New(env, boxlite_box_info_main_signal(info));
    return object;
}

// Also one that is named as a property of every object is one of this object's own.
Napi::Object labels_object(Napi::Env env, const boxlite_box_info *info)
{
    Napi::Object object = Napi::Object::New(env);
    for (size_t i = 0; i < boxlite_box_info_label_count(info); i++)
        object.DefineProperty(Napi::PropertyDescriptor::Value(
            boxlite_box_info_label_name(info, i),
            text_or_null(env, boxlite_box_info_label_value(info, i)), napi_default_jsproperty));
    return object;
}

Napi::Object info_object(Napi::Env env, const boxlite_box_info *info)
{
    Napi::Object object = Napi::Object::New(env);
    object["id"] = text_or_null(env, boxlite_box_info_id(info));
    object["name"] = text_or_null(env, boxlite_box_info_name(info));
    object["image"] = text_or_null(env, boxlite_box_info_image(info));
    object["createdAt"] = text_or_null(env, boxlite_box_info_created_at(info));
    object["status"] = boxlite_box_status_name(boxlite_box_info_status(info));
    object["error"] = text_or_null(env, boxlite_box_info_error(info));
    object["labels"] = labels_object(env, info);
    object["accelerator"] = text_or_null(env, boxlite_box_info_accelerator(info));
    object["boot"] = text_or_null(env, boot_name(boxlite_box_info_boot(info)));
    object["cpus"] = number(env, boxlite_box_info_cpus(info));
    object["memoryMib"] = number(env, boxlite_box_info_memory_mib(info));
    object["diskSizeMib"] = number(env, boxlite_box_info_disk_size_mib(info));
    uint32_t pid = boxlite_box_info_pid(info);
    object["pid"] = pid ? number(env, pid) : env.Null();
    object["health"] = text_or_null(env, health_name(boxlite_box_info_health(info)));
    object["healthFailures"] = number(env, boxlite_box_info_health_failures(info));
    object["lastCheck"] = text_or_null(env, boxlite_box_info_last_check(info));
    object["main"] = main_object(env, info);
    object["detach"] = Napi::Boolean::New(env, boxlite_box_info_detach(info));
    object["autoRemove"] = Napi::Boolean::New(env, boxlite_box_info_auto_remove(info));
    Napi::Array stages = Napi::Array::New(env);
    for (size_t i = 0; i < boxlite_box_info_stage_count(info); i++) {
        Napi::Object stage = Napi::Object::New(env);
        stage["name"] = text_or_null(env, boxlite_box_info_stage_name(info, i));
        stage["microseconds"] = number(env, boxlite_box_info_stage_microseconds(info, i));
        stages[static_cast<uint32_t>(i)] = stage;
    }
    object["stages"] = stages;
    return object;
}

Napi::Object exec_object(Napi::Env env, const boxlite_exec_info *info)
{
    Napi::Object object = Napi::Object::New(env);
    object["id"] = number(env, boxlite_exec_info_id(info));
    Napi::Array argv = Napi::Array::New(env);
    for (size_t i = 0; i < boxlite_exec_info_argument_count(info); i++)
        argv[static_cast<uint32_t>(i)] = text_or_null(env, boxlite_exec_info_argument(info, i));
    object["argv"] = argv;
    object["startedAt"] = text_or_null(env, boxlite_exec_info_started_at(info));
    object["main"] = Napi::Boolean::New(env, boxlite_exec_info_is_main(info));
    object["detached"] = Napi::Boolean::New(env, boxlite_exec_info_is_detached(info));
    object["running"] = Napi::Boolean::New(env, boxlite_exec_info_is_running(info));
    object["code"] = code_or_null(env, boxlite_exec_info_code(info));
    object["signal"] = Napi::Number::New(env, boxlite_exec_info_signal(info));
    object["stdoutFirst"] = number(env, boxlite_exec_info_first(info, BOXLITE_STDOUT));
    object["stdoutTotal"] = number(env, boxlite_exec_info_total(info, BOXLITE_STDOUT));
    object["stderrFirst"] = number(env, boxlite_exec_info_first(info, BOXLITE_STDERR));
    object["stderrTotal"] = number(env, boxlite_exec_info_total(info, BOXLITE_STDERR));
    return object;
}

Napi::Object snapshot_object(Napi::Env env, const boxlite_snapshot *snapshot)
{
    Napi::Object object = Napi::Object::New(env);
    object["id"] = text_or_null(env, boxlite_snapshot_id(snapshot));
    object["boxId"] = text_or_null(env, boxlite_snapshot_box_id(snapshot));
    object["name"] = text_or_null(env, boxlite_snapshot_name(snapshot));
    object["createdAt"] = text_or_null(env, boxlite_snapshot_created_at(snapshot));
    object["parent"] = text_or_null(env, boxlite_snapshot_parent(snapshot));
    object["virtualBytes"] = number(env, boxlite_snapshot_virtual_bytes(snapshot));
    object["allocatedBytes"] = number(env, boxlite_snapshot_allocated_bytes(snapshot));
    return object;
}

const char *file_kind_name(int32_t kind)
{
    switch (kind) {
    case BOXLITE_FILE_BOX: return "box";
    case BOXLITE_FILE_SNAPSHOT: return "snapshot";
    case BOXLITE_FILE_BASE: return "base";
    case BOXLITE_FILE_IMAGE: return "image";
    case BOXLITE_FILE_ORPHAN: return "orphan";
    default: return "unknown";
    }
}

Napi::Object file_object(Napi::Env env, const boxlite_stored_file *file)
{
    Napi::Object object = Napi::Object::New(env);
    object["kind"] = file_kind_name(boxlite_stored_file_kind(file));
    object["path"] = text_or_null(env, boxlite_stored_file_path(file));
    object["boxId"] = text_or_null(env, boxlite_stored_file_box_id(file));
    object["name"] = text_or_null(env, boxlite_stored_file_name(file));
    object["virtualBytes"] = number(env, boxlite_stored_file_virtual_bytes(file));
    object["allocatedBytes"] = number(env, boxlite_stored_file_allocated_bytes(file));
    return object;
}

} // namespace

Napi::Value text_or_null(Napi::Env env, const char *text)
{
    return text ? Napi::Value(Napi::String::New(env, text)) : env.Null();
}

Napi::Value number(Napi::Env env, uint64_t value)
{
    return Napi::Number::New(env, static_cast<double>(value));
}

Napi::Value code_or_null(Napi::Env env, int32_t code)
{
    return code >= 0 ? Napi::Value(Napi::Number::New(env, code)) : env.Null();
}

Napi::Value take_info(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    boxlite_box_info *info;
    call(loop->env(), boxlite_op_take_info, op, &info);
    return info_object(loop->env(), Info(info).get());
}

Napi::Value take_info_list(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    Napi::Env env = loop->env();
    boxlite_info_list *list;
    call(env, boxlite_op_take_info_list, op, &list);
    InfoList owned(list);
    Napi::Array array = Napi::Array::New(env);
    for (size_t i = 0; i < boxlite_info_list_count(list); i++)
        array[static_cast<uint32_t>(i)] = info_object(env, boxlite_info_list_get(list, i));
    return array;
}

Napi::Value take_exec_list(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    Napi::Env env = loop->env();
    boxlite_exec_list *list;
    call(env, boxlite_op_take_exec_list, op, &list);
    ExecList owned(list);
    Napi::Array array = Napi::Array::New(env);
    for (size_t i = 0; i < boxlite_exec_list_count(list); i++)
        array[static_cast<uint32_t>(i)] = exec_object(env, boxlite_exec_list_get(list, i));
    return array;
}

Napi::Value take_snapshot(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    Napi::Env env = loop->env();
    boxlite_snapshot *snapshot;
    call(env, boxlite_op_take_snapshot, op, &snapshot);
    Snapshot owned(snapshot);
    return snapshot ? Napi::Value(snapshot_object(env, snapshot)) : env.Null();
}

Napi::Value take_snapshot_list(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    Napi::Env env = loop->env();
    boxlite_snapshot_list *list;
    call(env, boxlite_op_take_snapshot_list, op, &list);
    SnapshotList owned(list);
    Napi::Array array = Napi::Array::New(env);
    for (size_t i = 0; i < boxlite_snapshot_list_count(list); i++)
        array[static_cast<uint32_t>(i)] = snapshot_object(env, boxlite_snapshot_list_get(list, i));
    return array;
}

Napi::Value take_file_list(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    Napi::Env env = loop->env();
    boxlite_file_list *list;
    call(env, boxlite_op_take_file_list, op, &list);
    FileList owned(list);
    Napi::Array array = Napi::Array::New(env);
    for (size_t i = 0; i < boxlite_file_list_count(list); i++)
        array[static_cast<uint32_t>(i)] = file_object(env, boxlite_file_list_get(list, i));
    return array;
}

Napi::Value take_output(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    Napi::Env env = loop->env();
    boxlite_output *output;
    call(env, boxlite_op_take_output, op, &output);
    Output owned(output);
    auto bytes = [&](int32_t stream) {
        size_t length;
        const uint8_t *data = boxlite_output_bytes(output, stream, &length);
        return Napi::Buffer<uint8_t>::Copy(env, data, length);
    };
    Napi::Object object = Napi::Object::New(env);
    object["code"] = Napi::Number::New(env, boxlite_output_code(output));
    object["signal"] = Napi::Number::New(env, boxlite_output_signal(output));
    object["message"] = text_or_null(env, boxlite_output_message(output));
    object["stdout"] = bytes(BOXLITE_STDOUT);
    object["stderr"] = bytes(BOXLITE_STDERR);
    object["stdoutDropped"] = number(env, boxlite_output_dropped(output, BOXLITE_STDOUT));
    object["stderrDropped"] = number(env, boxlite_output_dropped(output, BOXLITE_STDERR));
    return object;
}

Napi::Value counters_object(Napi::Env env, const boxlite_runtime *runtime)
{
    auto count = [&](int32_t counter) {
        return number(env, boxlite_runtime_counter(runtime, counter));
    };
    Napi::Object object = Napi::Object::New(env);
    object["coldStarts"] = count(BOXLITE_COUNTER_COLD_STARTS);
    object["restoredStarts"] = count(BOXLITE_COUNTER_RESTORED_STARTS);
    object["pooledStarts"] = count(BOXLITE_COUNTER_POOLED_STARTS);
    object["templatesMade"] = count(BOXLITE_COUNTER_TEMPLATES_MADE);
    object["diskTemplatesMade"] = count(BOXLITE_COUNTER_DISK_TEMPLATES_MADE);
    object["detours"] = count(BOXLITE_COUNTER_DETOURS);
    object["boxesCreated"] = count(BOXLITE_COUNTER_BOXES_CREATED);
    object["boxesFailed"] = count(BOXLITE_COUNTER_BOXES_FAILED);
    object["boxesStopped"] = count(BOXLITE_COUNTER_BOXES_STOPPED);
    object["commandsExecuted"] = count(BOXLITE_COUNTER_COMMANDS_EXECUTED);
    object["execErrors"] = count(BOXLITE_COUNTER_EXEC_ERRORS);
    return object;
}
