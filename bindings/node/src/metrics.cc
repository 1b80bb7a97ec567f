#include "metrics.h"

#include "error.h"

namespace {

using Metrics = std::unique_ptr<boxlite_metrics, Freed<boxlite_metrics_free>>;
using Text = std::unique_ptr<boxlite_text, Freed<boxlite_text_free>>;

struct Metric {
    const char *name;
    int32_t metric;
};

const Metric of_a_runtime[] = {
    {"boxesCreatedTotal", BOXLITE_METRIC_BOXES_CREATED_TOTAL},
    {"boxesFailedTotal", BOXLITE_METRIC_BOXES_FAILED_TOTAL},
    {"boxesStoppedTotal", BOXLITE_METRIC_BOXES_STOPPED_TOTAL},
    {"numRunningBoxes", BOXLITE_METRIC_NUM_RUNNING_BOXES},
    {"totalCommandsExecuted", BOXLITE_METRIC_TOTAL_COMMANDS_EXECUTED},
    {"totalExecErrors", BOXLITE_METRIC_TOTAL_EXEC_ERRORS},
};

const Metric of_a_box[] = {
    {"commandsExecutedTotal", BOXLITE_METRIC_COMMANDS_EXECUTED_TOTAL},
    {"execErrorsTotal", BOXLITE_METRIC_EXEC_ERRORS_TOTAL},
    {"bytesSentTotal", BOXLITE_METRIC_BYTES_SENT_TOTAL},
    {"bytesReceivedTotal", BOXLITE_METRIC_BYTES_RECEIVED_TOTAL},
    {"cpuPercent", BOXLITE_METRIC_CPU_PERCENT},
    {"memoryBytes", BOXLITE_METRIC_MEMORY_BYTES},
    {"machineCpuMs", BOXLITE_METRIC_MACHINE_CPU_MS},
    {"supervisorCpuMs", BOXLITE_METRIC_SUPERVISOR_CPU_MS},
    {"machineMemoryBytes", BOXLITE_METRIC_MACHINE_MEMORY_BYTES},
    {"supervisorMemoryBytes", BOXLITE_METRIC_SUPERVISOR_MEMORY_BYTES},
    {"networkBytesSent", BOXLITE_METRIC_NETWORK_BYTES_SENT},
    {"networkBytesReceived", BOXLITE_METRIC_NETWORK_BYTES_RECEIVED},
    {"networkTcpConnections", BOXLITE_METRIC_NETWORK_TCP_CONNECTIONS},
    {"networkTcpErrors", BOXLITE_METRIC_NETWORK_TCP_ERRORS},
    {"guestMemoryTotalBytes", BOXLITE_METRIC_GUEST_MEMORY_TOTAL_BYTES},
    {"guestMemoryAvailableBytes", BOXLITE_METRIC_GUEST_MEMORY_AVAILABLE_BYTES},
    {"guestCpuMs", BOXLITE_METRIC_GUEST_CPU_MS},
    {"guestLoad1", BOXLITE_METRIC_GUEST_LOAD_1},
    {"guestLoad5", BOXLITE_METRIC_GUEST_LOAD_5},
    {"guestLoad15", BOXLITE_METRIC_GUEST_LOAD_15},
    {"guestProcesses", BOXLITE_METRIC_GUEST_PROCESSES},
    {"guestUptimeMs", BOXLITE_METRIC_GUEST_UPTIME_MS},
    {"guestDiskSizeBytes", BOXLITE_METRIC_GUEST_DISK_SIZE_BYTES},
    {"guestDiskUsedBytes", BOXLITE_METRIC_GUEST_DISK_USED_BYTES},
    {"totalCreateMs", BOXLITE_METRIC_TOTAL_CREATE_MS},
    {"guestBootMs", BOXLITE_METRIC_GUEST_BOOT_MS},
    {"filesystemSetupMs", BOXLITE_METRIC_FILESYSTEM_SETUP_MS},
    {"imagePrepareMs", BOXLITE_METRIC_IMAGE_PREPARE_MS},
    {"guestRootfsMs", BOXLITE_METRIC_GUEST_ROOTFS_MS},
    {"boxConfigMs", BOXLITE_METRIC_BOX_CONFIG_MS},
    {"boxSpawnMs", BOXLITE_METRIC_BOX_SPAWN_MS},
    {"containerInitMs", BOXLITE_METRIC_CONTAINER_INIT_MS},
};

// undefined is what is not available.
template <size_t N>
Napi::Value take(const std::shared_ptr<Loop> &loop, boxlite_op *op, const Metric (&wanted)[N])
{
    Napi::Env env = loop->env();
    boxlite_metrics *metrics;
    call(env, boxlite_op_take_metrics, op, &metrics);
    Metrics owned(metrics);
    Napi::Object object = Napi::Object::New(env);
    for (const Metric &one : wanted) {
        double value = boxlite_metrics_get(metrics, one.metric);
        object[one.name] = value < 0 ? env.Undefined() : Napi::Number::New(env, value);
    }
    return object;
}

} // namespace

Napi::Value take_runtime_metrics(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    return take(loop, op, of_a_runtime);
}

Napi::Value take_box_metrics(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    return take(loop, op, of_a_box);
}

Napi::Value take_text(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    boxlite_text *text;
    call(loop->env(), boxlite_op_take_text, op, &text);
    return Napi::String::New(loop->env(), boxlite_text_get(Text(text).get()));
}
