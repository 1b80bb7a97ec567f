package boxlite

// #include <boxlite.h>
import "C"

import (
	"strconv"
	"time"
)

// A HealthCheck is a command that says by its exit code whether its box is well: 0 if it is. It runs
// with the environment, user and directory of the box's commands, and what it writes is dropped.
type HealthCheck struct {
	// Args are the program and its arguments.
	Args []string
	// Interval is the time from the start of the box, and from the end of the check before, to a
	// check, in whole milliseconds from 100 ms to a day; 30 s unless set.
	Interval time.Duration
	// Timeout is how long a check may take before it is killed and has failed, in whole milliseconds
	// from 100 ms to a day; 30 s unless set.
	Timeout time.Duration
	// Retries is how many checks in a row have to fail for the box to be unhealthy, 1 to 1000; 3
	// unless set.
	Retries uint32
	// StartPeriod is the time from the start of the box in which failures do not count until a check
	// has succeeded, in whole milliseconds up to a day.
	StartPeriod time.Duration
}

// A Main is a command that is started with its box, the box's main process. It reads end of file on
// stdin. Its output is kept, and can be followed by [Box.AttachMain]; Info.Main tells how it is. The
// start of the box fails with ErrExecution if it cannot be run.
type Main struct {
	// Args are the program and its arguments. Without any it is the box's own command: its entrypoint
	// and cmd.
	Args []string
	// Stay tells that the box runs on when the main process has ended, instead of being stopped.
	Stay bool
}

// A Health is what a box's health checks say.
type Health int32

// What health checks say.
const (
	HealthNone      Health = C.BOXLITE_HEALTH_NONE      // there are none, or the box was never started
	HealthStarting  Health = C.BOXLITE_HEALTH_STARTING  // none has succeeded yet, and not enough have failed
	HealthHealthy   Health = C.BOXLITE_HEALTH_HEALTHY   // the last succeeded, or not enough have failed since
	HealthUnhealthy Health = C.BOXLITE_HEALTH_UNHEALTHY // as many in a row have failed as it takes
)

// String returns the health as a word, such as "healthy".
func (h Health) String() string {
	words := [...]string{"none", "starting", "healthy", "unhealthy"}
	if h < 0 || int(h) >= len(words) {
		return "health " + strconv.Itoa(int(h))
	}
	return words[h]
}

// A MainStatus is how a box's main process is.
type MainStatus int32

// The life of a main process.
const (
	MainNone    MainStatus = C.BOXLITE_MAIN_NONE    // there is none, or it was not started
	MainRunning MainStatus = C.BOXLITE_MAIN_RUNNING // it runs
	MainExited  MainStatus = C.BOXLITE_MAIN_EXITED  // it has ended, in the box's last run
	MainLost    MainStatus = C.BOXLITE_MAIN_LOST    // its box was cut off before its end was seen
)

// String returns the status as a word, such as "exited".
func (s MainStatus) String() string {
	words := [...]string{"none", "running", "exited", "lost"}
	if s < 0 || int(s) >= len(words) {
		return "main status " + strconv.Itoa(int(s))
	}
	return words[s]
}

// setLife sets how a box lives and ends.
func (o *BoxOptions) setLife(s *setter, options *C.boxlite_box_options) {
	s.set(func(e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_options_set_auto_remove(options, C.bool(o.AutoRemove), e)
	})
	s.set(func(e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_options_set_detach(options, C.bool(o.Detach), e)
	})
	if o.IdleStop != 0 {
		idle := s.seconds("IdleStop", o.IdleStop)
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_box_options_set_idle_stop_s(options, idle, e)
		})
	}
	if o.SpoolBytes != 0 {
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_box_options_set_spool_bytes(options, C.uint64_t(o.SpoolBytes), e)
		})
	}
	if o.HealthCheck != nil {
		o.HealthCheck.set(s, options)
	}
	if o.Main != nil {
		o.Main.set(s, options)
	}
}

func (h *HealthCheck) set(s *setter, options *C.boxlite_box_options) {
	argv, argc := s.memory.list("HealthCheck.Args", h.Args)
	interval := s.milliseconds("HealthCheck.Interval", h.Interval)
	timeout := s.milliseconds("HealthCheck.Timeout", h.Timeout)
	period := s.milliseconds("HealthCheck.StartPeriod", h.StartPeriod)
	s.set(func(e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_options_set_health_check(options, argv, argc,
			interval, timeout, C.uint32_t(h.Retries), period, e)
	})
}

func (m *Main) set(s *setter, options *C.boxlite_box_options) {
	argv, argc := s.memory.list("Main.Args", m.Args)
	s.set(func(e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_options_set_main(options, argv, argc, e)
	})
	what := C.int32_t(C.BOXLITE_MAIN_EXIT_STOP)
	if m.Stay {
		what = C.BOXLITE_MAIN_EXIT_STAY
	}
	s.set(func(e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_options_set_main_exit(options, what, e)
	})
}

// milliseconds converts a duration; one out of its range becomes the setter's error.
func (s *setter) milliseconds(field string, d time.Duration) C.uint64_t {
	ms, err := milliseconds(field, d)
	if s.err == nil {
		s.err = err
	}
	return C.uint64_t(ms)
}

// seconds converts a duration; one out of its range becomes the setter's error.
func (s *setter) seconds(field string, d time.Duration) C.uint64_t {
	whole, err := seconds(field, d)
	if s.err == nil {
		s.err = err
	}
	return whole
}
