package boxlite

// #include <boxlite.h>
import "C"

import (
	"fmt"
	"os"
	"syscall"
)

// A dispatcher calls the callbacks that are due, on a goroutine of its own that waits in Go's
// poller and holds no thread meanwhile.
type dispatcher struct {
	runtime *C.boxlite_runtime // a handle of its own
	events  *os.File
	ended   chan struct{}
}

func newDispatcher(rt *C.boxlite_runtime) (*dispatcher, error) {
	// The descriptor is borrowed, and os.File closes what it has: so it gets a duplicate.
	fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(C.boxlite_event_fd(rt)), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return nil, fmt.Errorf("boxlite: duplicate the event descriptor: %w", errno)
	}
	events := os.NewFile(fd, "boxlite events")
	conn, err := events.SyscallConn()
	if err != nil {
		events.Close()
		return nil, fmt.Errorf("boxlite: watch the event descriptor: %w", err)
	}
	d := &dispatcher{runtime: C.boxlite_runtime_ref(rt), events: events, ended: make(chan struct{})}
	go d.run(conn)
	return d, nil
}

func (d *dispatcher) run(conn syscall.RawConn) {
	defer close(d.ended)
	defer C.boxlite_runtime_free(d.runtime)
	// Returns when the file is closed.
	_ = conn.Read(func(uintptr) bool {
		d.drain()
		return false
	})
}

// drain dispatches until nothing is due. The poller reports edges: the next one comes when
// something is due again.
func (d *dispatcher) drain() {
	for {
		var left C.size_t
		if C.boxlite_dispatch(d.runtime, 0, &left, nil) != C.BOXLITE_OK || left == 0 {
			return
		}
	}
}

// stop ends the goroutine, and waits for that.
func (d *dispatcher) stop() {
	d.events.Close()
	<-d.ended
}
