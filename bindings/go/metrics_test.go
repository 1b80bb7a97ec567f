package boxlite

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func metricsOf(t *testing.T, box *Box) Metrics {
	t.Helper()
	metrics, err := box.Metrics(within(t))
	ok(t, err)
	return metrics
}

// measured compares metrics; -1 stands for one that is not available.
func measured(t *testing.T, metrics Metrics, wanted Metrics) {
	t.Helper()
	for metric, value := range wanted {
		got, available := metrics[metric]
		if available != (value >= 0) || available && got != value {
			t.Errorf("%v is %v (%v), not %v", metric, got, available, value)
		}
	}
}

func TestMetricsOfABox(t *testing.T) {
	ctx := within(t)
	box := newBox(t, shared, BoxOptions{})
	if metrics, err := box.Metrics(ctx); !errors.Is(err, ErrInvalidState) || metrics != nil {
		t.Fatal(metrics, err)
	}
	ok(t, box.Start(ctx))
	before := metricsOf(t, box)
	measured(t, before, Metrics{MetricCommandsExecutedTotal: 0, MetricExecErrorsTotal: 0, MetricBytesReceivedTotal: 0})

	exec, err := box.Exec(ctx, Command{Args: []string{"sh", "-c", "cat >&2; head -c 100000 /dev/zero"}, Stdin: true})
	ok(t, err)
	defer exec.Close()
	stdout := exec.Stdout()
	_, err = exec.Stdin().Write(make([]byte, 777))
	ok(t, err)
	ok(t, exec.Stdin().Close())
	_, err = io.Copy(io.Discard, stdout)
	ok(t, err)
	wait(t, exec)
	runs(t, box, "/no/such/program")
	_, err = box.Run(ctx, shell("dd if=/dev/zero of=/dev/shm/taken bs=1M count=64"), 0)
	ok(t, err)
	after := metricsOf(t, box)
	measured(t, after, Metrics{
		MetricCommandsExecutedTotal: 2,
		MetricExecErrorsTotal:       1,
		MetricBytesSentTotal:        777,
		MetricMemoryBytes:           after[MetricMachineMemoryBytes] + after[MetricSupervisorMemoryBytes],
		MetricNetworkBytesSent:      -1,
		MetricBoxesCreatedTotal:     -1,
	})
	const mib = 1 << 20
	for name, holds := range map[string]bool{
		"received": after[MetricBytesReceivedTotal] >= 100777,
		"cpu":      after[MetricMachineCPUMs] > 0 && after[MetricGuestCPUMs] > 0,
		"memory":   after[MetricGuestMemoryAvailableBytes] < before[MetricGuestMemoryAvailableBytes]-48*mib,
		"total":    after[MetricGuestMemoryTotalBytes] > 400*mib && after[MetricGuestMemoryTotalBytes] < 512*mib,
		"disk":     after[MetricGuestDiskSizeBytes] > 9e9 && after[MetricGuestDiskUsedBytes] > 0,
		"start":    after[MetricTotalCreateMs] > after[MetricGuestBootMs] && after[MetricGuestBootMs] > 0,
	} {
		if !holds {
			t.Errorf("%s: before %v, after %v", name, before, after)
		}
	}

	// Who stands still is left out.
	ok(t, box.Pause(ctx))
	measured(t, metricsOf(t, box), Metrics{MetricCommandsExecutedTotal: 2, MetricGuestMemoryTotalBytes: -1, MetricGuestLoad1: -1})
}

func TestMetricsOfARuntime(t *testing.T) {
	ctx := within(t)
	rt := openRuntime(t)
	box, other := newBox(t, rt, BoxOptions{Name: "metered"}), newBox(t, rt, BoxOptions{})
	ok(t, box.Start(ctx))
	ok(t, other.Start(ctx))
	runs(t, box, "true")
	runs(t, box, "/no/such/program")
	ok(t, other.Stop(ctx, 0))
	metrics, err := rt.Metrics(ctx)
	ok(t, err)
	measured(t, metrics, Metrics{
		MetricBoxesCreatedTotal:     2,
		MetricBoxesFailedTotal:      0,
		MetricBoxesStoppedTotal:     1,
		MetricNumRunningBoxes:       1,
		MetricTotalCommandsExecuted: 1,
		MetricTotalExecErrors:       1,
		MetricCPUPercent:            -1,
		MetricCommandsExecutedTotal: -1,
	})

	counted := Counters{BoxesCreated: 2, BoxesStopped: 1, CommandsExecuted: 1, ExecErrors: 1}
	counters := rt.Counters()
	counters.ColdStarts, counters.RestoredStarts, counters.TemplatesMade, counters.DiskTemplatesMade = 0, 0, 0, 0
	if counters != counted {
		t.Errorf("%+v", counters)
	}

	text, err := rt.MetricsText(ctx)
	ok(t, err)
	for _, line := range []string{
		"# TYPE boxlite_running_boxes gauge",
		"boxlite_running_boxes 1",
		fmt.Sprintf("boxlite_box_commands_executed_total{id=%q,name=\"metered\"} 1", box.ID()),
	} {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("%s is not in\n%s", line, text)
		}
	}
	if strings.Contains(text, other.ID()) {
		t.Errorf("a box that does not run is in\n%s", text)
	}

	// Another has done nothing, and one that is closed tells nothing.
	rt = openRuntime(t)
	metrics, err = rt.Metrics(ctx)
	ok(t, err)
	measured(t, metrics, Metrics{MetricBoxesCreatedTotal: 0, MetricNumRunningBoxes: 0})
	ok(t, rt.Close(ctx))
	if metrics, err := rt.Metrics(ctx); err != ErrClosed || metrics != nil {
		t.Error(metrics, err)
	}
	if text, err := rt.MetricsText(ctx); err != ErrClosed {
		t.Error(text, err)
	}
	ok(t, box.Close())
	if metrics, err := box.Metrics(ctx); err != ErrClosed {
		t.Error(metrics, err)
	}
}
