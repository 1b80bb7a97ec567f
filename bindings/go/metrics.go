package boxlite

// #include <boxlite.h>
import "C"

import (
	"context"
	"strconv"
)

// A Metric is something that can be measured of a runtime or of a box.
type Metric int32

// The metrics. Those that end in Bytes are in bytes, those that end in Ms in milliseconds. Metrics may
// be added, and never change.
const (
	// Of a runtime.
	MetricBoxesCreatedTotal     Metric = C.BOXLITE_METRIC_BOXES_CREATED_TOTAL     // boxes that this runtime has made
	MetricBoxesFailedTotal      Metric = C.BOXLITE_METRIC_BOXES_FAILED_TOTAL      // boxes that could not be started, or came to an unwanted end
	MetricBoxesStoppedTotal     Metric = C.BOXLITE_METRIC_BOXES_STOPPED_TOTAL     // boxes that ended as they were meant to
	MetricNumRunningBoxes       Metric = C.BOXLITE_METRIC_NUM_RUNNING_BOXES       // boxes that run, of those that it has started or is connected to
	MetricTotalCommandsExecuted Metric = C.BOXLITE_METRIC_TOTAL_COMMANDS_EXECUTED // commands that it has started
	MetricTotalExecErrors       Metric = C.BOXLITE_METRIC_TOTAL_EXEC_ERRORS       // commands of it that could not be started

	// Of a box since its start, by whatever program.
	MetricCommandsExecutedTotal Metric = C.BOXLITE_METRIC_COMMANDS_EXECUTED_TOTAL // commands started in it
	MetricExecErrorsTotal       Metric = C.BOXLITE_METRIC_EXEC_ERRORS_TOTAL       // commands that could not be
	MetricBytesSentTotal        Metric = C.BOXLITE_METRIC_BYTES_SENT_TOTAL        // bytes that went to the stdin of commands
	MetricBytesReceivedTotal    Metric = C.BOXLITE_METRIC_BYTES_RECEIVED_TOTAL    // bytes that came of their output

	// Of its processes on the host.
	MetricCPUPercent            Metric = C.BOXLITE_METRIC_CPU_PERCENT             // of the machine, since it was asked for before; 100 is one processor
	MetricMemoryBytes           Metric = C.BOXLITE_METRIC_MEMORY_BYTES            // of the machine and the supervisor
	MetricMachineCPUMs          Metric = C.BOXLITE_METRIC_MACHINE_CPU_MS          // processor time that the machine has used
	MetricSupervisorCPUMs       Metric = C.BOXLITE_METRIC_SUPERVISOR_CPU_MS       // processor time that the supervisor has used
	MetricMachineMemoryBytes    Metric = C.BOXLITE_METRIC_MACHINE_MEMORY_BYTES    // what of the machine is in memory
	MetricSupervisorMemoryBytes Metric = C.BOXLITE_METRIC_SUPERVISOR_MEMORY_BYTES // what of the supervisor is

	// Not available yet.
	MetricNetworkBytesSent      Metric = C.BOXLITE_METRIC_NETWORK_BYTES_SENT
	MetricNetworkBytesReceived  Metric = C.BOXLITE_METRIC_NETWORK_BYTES_RECEIVED
	MetricNetworkTCPConnections Metric = C.BOXLITE_METRIC_NETWORK_TCP_CONNECTIONS
	MetricNetworkTCPErrors      Metric = C.BOXLITE_METRIC_NETWORK_TCP_ERRORS

	// Of its guest, as it says itself: whoever is root in it can falsify them. Not available while it is
	// paused or does not answer.
	MetricGuestMemoryTotalBytes     Metric = C.BOXLITE_METRIC_GUEST_MEMORY_TOTAL_BYTES     // the memory that it has
	MetricGuestMemoryAvailableBytes Metric = C.BOXLITE_METRIC_GUEST_MEMORY_AVAILABLE_BYTES // the memory that programs in it could have
	MetricGuestCPUMs                Metric = C.BOXLITE_METRIC_GUEST_CPU_MS                 // time that its processors were busy, added up
	MetricGuestLoad1                Metric = C.BOXLITE_METRIC_GUEST_LOAD_1                 // its load on the average of 1 minute
	MetricGuestLoad5                Metric = C.BOXLITE_METRIC_GUEST_LOAD_5                 // of 5 minutes
	MetricGuestLoad15               Metric = C.BOXLITE_METRIC_GUEST_LOAD_15                // of 15 minutes
	MetricGuestProcesses            Metric = C.BOXLITE_METRIC_GUEST_PROCESSES              // processes and threads in it
	MetricGuestUptimeMs             Metric = C.BOXLITE_METRIC_GUEST_UPTIME_MS              // since its kernel booted: that of a template, if it was restored
	MetricGuestDiskSizeBytes        Metric = C.BOXLITE_METRIC_GUEST_DISK_SIZE_BYTES        // the size of its root file system
	MetricGuestDiskUsedBytes        Metric = C.BOXLITE_METRIC_GUEST_DISK_USED_BYTES        // what is taken of that

	// Of its start. They are for comparison with other software: Info.Stages has the stages as they are.
	MetricTotalCreateMs     Metric = C.BOXLITE_METRIC_TOTAL_CREATE_MS     // how long it took
	MetricGuestBootMs       Metric = C.BOXLITE_METRIC_GUEST_BOOT_MS       // of that: until the machine was booted, restored or handed over
	MetricFilesystemSetupMs Metric = C.BOXLITE_METRIC_FILESYSTEM_SETUP_MS // of that: looking at the host, and having the box's directories ready
	MetricImagePrepareMs    Metric = C.BOXLITE_METRIC_IMAGE_PREPARE_MS    // of that: making a template with the image's disk
	MetricGuestRootfsMs     Metric = C.BOXLITE_METRIC_GUEST_ROOTFS_MS     // of that: making a machine template
	MetricBoxConfigMs       Metric = C.BOXLITE_METRIC_BOX_CONFIG_MS       // of that: putting together what the supervisor is to do
	MetricBoxSpawnMs        Metric = C.BOXLITE_METRIC_BOX_SPAWN_MS        // of that: the processes of the supervisor and, before a boot, the machine
	MetricContainerInitMs   Metric = C.BOXLITE_METRIC_CONTAINER_INIT_MS   // of that: identity, clock and disk
)

var metricNames = map[Metric]string{
	MetricBoxesCreatedTotal:         "boxes_created_total",
	MetricBoxesFailedTotal:          "boxes_failed_total",
	MetricBoxesStoppedTotal:         "boxes_stopped_total",
	MetricNumRunningBoxes:           "num_running_boxes",
	MetricTotalCommandsExecuted:     "total_commands_executed",
	MetricTotalExecErrors:           "total_exec_errors",
	MetricCommandsExecutedTotal:     "commands_executed_total",
	MetricExecErrorsTotal:           "exec_errors_total",
	MetricBytesSentTotal:            "bytes_sent_total",
	MetricBytesReceivedTotal:        "bytes_received_total",
	MetricCPUPercent:                "cpu_percent",
	MetricMemoryBytes:               "memory_bytes",
	MetricMachineCPUMs:              "machine_cpu_ms",
	MetricSupervisorCPUMs:           "supervisor_cpu_ms",
	MetricMachineMemoryBytes:        "machine_memory_bytes",
	MetricSupervisorMemoryBytes:     "supervisor_memory_bytes",
	MetricNetworkBytesSent:          "network_bytes_sent",
	MetricNetworkBytesReceived:      "network_bytes_received",
	MetricNetworkTCPConnections:     "network_tcp_connections",
	MetricNetworkTCPErrors:          "network_tcp_errors",
	MetricGuestMemoryTotalBytes:     "guest_memory_total_bytes",
	MetricGuestMemoryAvailableBytes: "guest_memory_available_bytes",
	MetricGuestCPUMs:                "guest_cpu_ms",
	MetricGuestLoad1:                "guest_load_1",
	MetricGuestLoad5:                "guest_load_5",
	MetricGuestLoad15:               "guest_load_15",
	MetricGuestProcesses:            "guest_processes",
	MetricGuestUptimeMs:             "guest_uptime_ms",
	MetricGuestDiskSizeBytes:        "guest_disk_size_bytes",
	MetricGuestDiskUsedBytes:        "guest_disk_used_bytes",
	MetricTotalCreateMs:             "total_create_ms",
	MetricGuestBootMs:               "guest_boot_ms",
	MetricFilesystemSetupMs:         "filesystem_setup_ms",
	MetricImagePrepareMs:            "image_prepare_ms",
	MetricGuestRootfsMs:             "guest_rootfs_ms",
	MetricBoxConfigMs:               "box_config_ms",
	MetricBoxSpawnMs:                "box_spawn_ms",
	MetricContainerInitMs:           "container_init_ms",
}

// String returns the name of the metric, such as "guest_load_1".
func (m Metric) String() string {
	if name, known := metricNames[m]; known {
		return name
	}
	return "metric " + strconv.Itoa(int(m))
}

// Metrics are what was measured, as it was then; counts are whole numbers. What is not available, or is
// no metric of what was asked, is not in it:
//
//	load, available := metrics[boxlite.MetricGuestLoad1]
type Metrics map[Metric]float64

func newMetrics(metrics *C.boxlite_metrics) Metrics {
	m := Metrics{}
	for metric := range metricNames {
		if value := float64(C.boxlite_metrics_get(metrics, C.int32_t(metric))); value != -1 {
			m[metric] = value
		}
	}
	return m
}

// takeMetrics is the takeFunc of operations that result in metrics.
func takeMetrics(metrics *Metrics) takeFunc {
	return func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		var taken *C.boxlite_metrics
		status := C.boxlite_op_take_metrics(op, &taken, e)
		if status == C.BOXLITE_OK {
			defer C.boxlite_metrics_free(taken)
			*metrics = newMetrics(taken)
		}
		return status
	}
}

// Metrics asks what the box has done since it was started, and what it takes. A guest that does not
// answer is waited for up to 2 s, and then left out.
//
// Errors: ErrInvalidState (the box does not run), ErrTimeout (its supervisor does not answer),
// ErrStopped or ErrEngine (it ended meanwhile).
func (b *Box) Metrics(ctx context.Context) (Metrics, error) {
	var metrics Metrics
	err := b.operate(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_metrics(p, op, e)
	}, takeMetrics(&metrics))
	return metrics, err
}

// Metrics asks what the runtime has done since it was opened.
func (r *Runtime) Metrics(ctx context.Context) (Metrics, error) {
	var metrics Metrics
	err := r.operate(ctx, func(op **C.boxlite_op) error {
		return r.core.handle.call(func(p *C.boxlite_runtime, e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_runtime_metrics(p, op, e)
		})
	}, takeMetrics(&metrics))
	return metrics, err
}

// MetricsText asks for the metrics of the runtime, and of the running boxes that it has started or is
// connected to, in the text format of Prometheus (0.0.4): names begin with "boxlite_", times are in
// seconds, and those of a box have the labels id and name, which is empty for one without. A box that
// does not answer is not in it.
func (r *Runtime) MetricsText(ctx context.Context) (string, error) {
	var text string
	err := r.operate(ctx, func(op **C.boxlite_op) error {
		return r.core.handle.call(func(p *C.boxlite_runtime, e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_runtime_metrics_text(p, op, e)
		})
	}, takeText(&text))
	return text, err
}
