package boxlite

// #include <boxlite.h>
import "C"

import (
	"strconv"
	"syscall"
	"time"
)

// A BoxStatus is where in its life a box is.
type BoxStatus int32

// The life of a box.
const (
	StatusUnknown    BoxStatus = C.BOXLITE_BOX_UNKNOWN    // it cannot be read, only removed; Info.Reason tells why
	StatusConfigured BoxStatus = C.BOXLITE_BOX_CONFIGURED // made, never started
	StatusStarting   BoxStatus = C.BOXLITE_BOX_STARTING   // being started
	StatusRunning    BoxStatus = C.BOXLITE_BOX_RUNNING    // its machine runs
	StatusStopping   BoxStatus = C.BOXLITE_BOX_STOPPING   // being stopped
	StatusStopped    BoxStatus = C.BOXLITE_BOX_STOPPED    // stopped by request or by itself; its disk is intact
	StatusPaused     BoxStatus = C.BOXLITE_BOX_PAUSED     // its machine stands still
	StatusFailed     BoxStatus = C.BOXLITE_BOX_FAILED     // came to an unwanted end; its disk is kept
)

// String returns the status as a word, such as "running".
func (s BoxStatus) String() string {
	words := [...]string{"unknown", "configured", "starting", "running", "stopping", "stopped", "paused", "failed"}
	if s < 0 || int(s) >= len(words) {
		return "status " + strconv.Itoa(int(s))
	}
	return words[s]
}

// A Boot is how a box's machine came to run.
type Boot int32

// The ways in which a box comes up.
const (
	BootUnknown  Boot = C.BOXLITE_BOOT_UNKNOWN  // it does not run, or nobody told this program
	BootCold     Boot = C.BOXLITE_BOOT_COLD     // its kernel booted
	BootRestored Boot = C.BOXLITE_BOOT_RESTORED // it was restored from a machine template
	BootPooled   Boot = C.BOXLITE_BOOT_POOLED   // it was restored beforehand, and waited for a box
)

// String returns the way as a word, such as "restored".
func (b Boot) String() string {
	words := [...]string{"unknown", "cold", "restored", "pooled"}
	if b < 0 || int(b) >= len(words) {
		return "boot " + strconv.Itoa(int(b))
	}
	return words[b]
}

// An Info is what a box is, and how it was when it was asked.
type Info struct {
	ID        string    // unique, for ever
	Name      string    // empty if it has none
	Image     string    // as it was given when the box was made
	CreatedAt time.Time // in UTC
	Status    BoxStatus // where in its life it is
	// Accelerator is what executes the box's instructions; empty if it does not run.
	Accelerator Accelerator
	// Boot is how the box's machine came to run; BootUnknown if it does not run, or if another
	// program runs it and this one has not used it yet.
	Boot Boot
	// Reason tells why the box failed or ended, or cannot be read; empty if there is nothing to tell.
	Reason    string
	CPUs      uint32 // virtual ones
	MemoryMiB uint32 // in MiB
	DiskMiB   uint64 // the disk's size as the box sees it, in MiB
	// PID is the process id of the box's supervisor; 0 if it does not run.
	PID int
	// Health is what the health checks say, in the box's last run.
	Health Health
	// HealthFailures is how many health checks in a row have failed.
	HealthFailures uint32
	// LastCheck is when the last health check ended, in UTC; zero if none has.
	LastCheck time.Time
	// Main is how the box's main process is, or was in its last run.
	Main MainStatus
	// MainExit is how the main process ended; its Code is -1 unless it has.
	MainExit ExitStatus
	// Detach tells whether the box outlives the program that starts it.
	Detach bool
	// AutoRemove tells whether the box is removed when it has stopped.
	AutoRemove bool
	// Labels are what the box is listed with and found by; nil if it has none.
	Labels map[string]string
	// Stages are what the last start by this program went through.
	Stages []Stage
}

// A Stage is one step of a box's start.
type Stage struct {
	Name     string        // such as "restore"
	Duration time.Duration // in whole microseconds
}

func newInfo(info *C.boxlite_box_info) Info {
	i := Info{
		ID:          C.GoString(C.boxlite_box_info_id(info)),
		Name:        C.GoString(C.boxlite_box_info_name(info)),
		Image:       C.GoString(C.boxlite_box_info_image(info)),
		CreatedAt:   parseTime(C.boxlite_box_info_created_at(info)),
		Status:      BoxStatus(C.boxlite_box_info_status(info)),
		Accelerator: Accelerator(C.GoString(C.boxlite_box_info_accelerator(info))),
		Boot:        Boot(C.boxlite_box_info_boot(info)),
		Reason:      C.GoString(C.boxlite_box_info_error(info)),
		CPUs:        uint32(C.boxlite_box_info_cpus(info)),
		MemoryMiB:   uint32(C.boxlite_box_info_memory_mib(info)),
		DiskMiB:     uint64(C.boxlite_box_info_disk_size_mib(info)),
		PID:         int(C.boxlite_box_info_pid(info)),

		Health:         Health(C.boxlite_box_info_health(info)),
		HealthFailures: uint32(C.boxlite_box_info_health_failures(info)),
		LastCheck:      parseTime(C.boxlite_box_info_last_check(info)),
		Main:           MainStatus(C.boxlite_box_info_main_status(info)),
		MainExit: ExitStatus{
			Code:   int(C.boxlite_box_info_main_code(info)),
			Signal: syscall.Signal(C.boxlite_box_info_main_signal(info)),
		},
		Detach:     bool(C.boxlite_box_info_detach(info)),
		AutoRemove: bool(C.boxlite_box_info_auto_remove(info)),
		Labels:     newLabels(info),
	}
	for n := C.size_t(0); n < C.boxlite_box_info_stage_count(info); n++ {
		elapsed := C.boxlite_box_info_stage_microseconds(info, n)
		i.Stages = append(i.Stages, Stage{
			Name:     C.GoString(C.boxlite_box_info_stage_name(info, n)),
			Duration: time.Duration(elapsed) * time.Microsecond,
		})
	}
	return i
}

// parseTime converts a time. It is zero if there is none: the library writes none that is malformed.
func parseTime(text *C.char) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, C.GoString(text))
	return t.UTC()
}
