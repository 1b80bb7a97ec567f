package boxlite

// #include "bridge.h"
import "C"

import (
	"strconv"
	"syscall"
	"time"
)

// An EventKind is what has happened.
type EventKind int32

// The kinds of events. Kinds may be added, and never change.
const (
	EventOverflow     EventKind = C.BOXLITE_EVENT_OVERFLOW     // events are missing here; Event.Lost says how many
	EventBoxCreated   EventKind = C.BOXLITE_EVENT_BOX_CREATED  // a box was made
	EventBoxStarted   EventKind = C.BOXLITE_EVENT_BOX_STARTED  // a box runs
	EventBoxPaused    EventKind = C.BOXLITE_EVENT_BOX_PAUSED   // a box stands still
	EventBoxResumed   EventKind = C.BOXLITE_EVENT_BOX_RESUMED  // a paused box goes on
	EventBoxStopped   EventKind = C.BOXLITE_EVENT_BOX_STOPPED  // a box ended as it was meant to
	EventBoxFailed    EventKind = C.BOXLITE_EVENT_BOX_FAILED   // a box could not be started, or came to an unwanted end
	EventBoxRemoved   EventKind = C.BOXLITE_EVENT_BOX_REMOVED  // a box was removed
	EventExecStarted  EventKind = C.BOXLITE_EVENT_EXEC_STARTED // a command was started, also a main process
	EventExecEnded    EventKind = C.BOXLITE_EVENT_EXEC_ENDED   // a command has ended
	EventUnresponsive EventKind = C.BOXLITE_EVENT_UNRESPONSIVE // agent, machine or supervisor of a box do not answer
	EventResponsive   EventKind = C.BOXLITE_EVENT_RESPONSIVE   // all of them answer again
	EventHealthy      EventKind = C.BOXLITE_EVENT_HEALTHY      // a health check of a box has succeeded, first or again
	EventUnhealthy    EventKind = C.BOXLITE_EVENT_UNHEALTHY    // as many of a box have failed in a row as it takes
)

// String returns the kind in words, such as "box started".
func (k EventKind) String() string {
	name := C.GoString(C.boxlite_event_kind_name(C.int32_t(k)))
	if name == "unknown" {
		return "event " + strconv.Itoa(int(k))
	}
	return name
}

// An Event is something that has happened to a box.
type Event struct {
	Kind EventKind
	// Time is when it happened, in UTC, in whole microseconds.
	Time time.Time
	// BoxID is the id of the box that it happened to; empty for an overflow.
	BoxID string
	// BoxName is the box's name; empty if it has none.
	BoxName string
	// Text is what there is to tell of it: why a box failed, or why it was paused or stopped if nobody
	// asked for that; the program of a command that was started, without its arguments; why a command
	// that has ended could not be run, or why its box ended before it; who does not answer; how many
	// health checks have failed. Otherwise it is empty.
	Text string
	// ExecID is the number of the command that it is about, as [Exec.ID] tells it; 0 if it is about none,
	// or the command could not be run.
	ExecID uint32
	// Status is how the command ended, if it is EventExecEnded. Its Code is -1 if the box ended first.
	Status ExitStatus
	// Lost is how many events are missing in the place of an EventOverflow.
	Lost uint64
}

// newEvent copies an event.
func newEvent(event *C.boxlite_event) Event {
	e := Event{
		Kind:    EventKind(C.boxlite_event_what(event)),
		Time:    time.UnixMicro(int64(C.boxlite_event_microseconds(event))).UTC(),
		BoxID:   C.GoString(C.boxlite_event_box_id(event)),
		BoxName: C.GoString(C.boxlite_event_box_name(event)),
		Text:    C.GoString(C.boxlite_event_text(event)),
		ExecID:  uint32(C.boxlite_event_exec(event)),
		Status: ExitStatus{
			Code:   int(C.boxlite_event_code(event)),
			Signal: syscall.Signal(C.boxlite_event_signal(event)),
		},
		Lost: uint64(C.boxlite_event_lost(event)),
	}
	if e.Kind == EventExecEnded {
		e.Status.Message = e.Text
	}
	return e
}
