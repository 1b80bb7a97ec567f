package boxlite

// #include <boxlite.h>
import "C"

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// closeGrace is how long processes have to end when a Runtime is closed.
const closeGrace = 10 * time.Second

// A Runtime is an open home: the directory where boxes and images are kept. Boxes that it starts
// run until they are stopped, or it is closed.
type Runtime struct {
	core *core
	once sync.Once
}

// A core is what of a Runtime other goroutines refer to: so the Runtime itself can be collected.
type core struct {
	handle     handle[*C.boxlite_runtime]
	dispatcher *dispatcher
	closed     chan struct{}

	mu       sync.Mutex
	children map[closer]struct{} // nil once closed
}

// A closer is the handle of a box, exec or subscription.
type closer interface{ close() }

// Open opens a home, which reads and writes a few local files.
//
// Errors: ErrStorage (the home cannot be made or written), ErrBusy (another program is changing its
// layout), ErrDatabase (it belongs to other or newer software), ErrConfig (the helper programs are
// not found), ErrInvalidArgument (an option is out of its range, and named in the error).
func Open(options Options) (*Runtime, error) {
	var rt *C.boxlite_runtime
	err := options.c(func(o *C.boxlite_runtime_options) error {
		return call(func(e **C.boxlite_error) C.boxlite_status { return C.boxlite_runtime_open(o, &rt, e) })
	})
	if err != nil {
		return nil, err
	}
	dispatcher, err := newDispatcher(rt)
	if err != nil {
		C.boxlite_runtime_free(rt)
		return nil, err
	}
	c := &core{dispatcher: dispatcher, closed: make(chan struct{}), children: map[closer]struct{}{}}
	c.handle.ptr = rt
	c.handle.free = func(p *C.boxlite_runtime) { C.boxlite_runtime_free(p) }
	r := &Runtime{core: c}
	runtime.AddCleanup(r, func(c *core) { c.close() }, c)
	return r, nil
}

// Close stops the boxes that this program runs, in order: their processes get SIGTERM and ten
// seconds to end, then SIGKILL, and their disks are unmounted. Those that are detached run on. Then it
// closes everything that came from the runtime. If the context ends first, what still runs is stopped
// at once, and the context's error is returned; the runtime is closed in any case. Closing again
// returns nil.
func (r *Runtime) Close(ctx context.Context) error {
	var err error
	r.once.Do(func() {
		err = r.Shutdown(ctx, closeGrace)
		r.core.close()
	})
	return err
}

// close frees everything; what waits returns ErrClosed.
func (c *core) close() {
	c.mu.Lock()
	children := c.children
	c.children = nil
	c.mu.Unlock()
	if children == nil {
		return
	}
	close(c.closed)
	// Before the children: what has happened up to now, subscriptions are still told.
	c.dispatcher.stop()
	for child := range children {
		child.close()
	}
	c.handle.close()
}

// adopt notes what is to be closed with the runtime.
func (c *core) adopt(child closer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.children == nil {
		child.close()
		return ErrClosed
	}
	c.children[child] = struct{}{}
	return nil
}

// closeChild closes what was adopted.
func (c *core) closeChild(child closer) {
	c.mu.Lock()
	delete(c.children, child)
	c.mu.Unlock()
	child.close()
}

// Shutdown stops the boxes that this program runs: their processes get SIGTERM and the grace to
// end, then SIGKILL, and their disks are unmounted. Those that are detached run on. Machines that wait
// for boxes end too, and no more are made. The runtime stays open.
func (r *Runtime) Shutdown(ctx context.Context, grace time.Duration) error {
	ms, err := milliseconds("grace", grace)
	if err != nil {
		return err
	}
	return r.operate(ctx, func(op **C.boxlite_op) error {
		return r.core.handle.call(func(p *C.boxlite_runtime, e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_runtime_shutdown(p, ms, op, e)
		})
	}, nothing)
}

// PoolReady returns how many machines wait for boxes now, see [Pool]; 0 once the runtime is closed.
func (r *Runtime) PoolReady() int {
	defer runtime.KeepAlive(r)
	var ready C.uint32_t
	r.core.handle.use(func(p *C.boxlite_runtime) { ready = C.boxlite_runtime_pool_ready(p) })
	return int(ready)
}

// Counters are how often a runtime has done something since it was opened.
type Counters struct {
	ColdStarts     uint64 // boxes started by booting their kernel
	RestoredStarts uint64 // boxes restored from a machine template
	PooledStarts   uint64 // boxes that got a machine which was waiting for one
	TemplatesMade  uint64 // machine templates made
	// DiskTemplatesMade counts the templates that were made with the disk of an image mounted.
	DiskTemplatesMade uint64
	// Detours counts how often a faster way to start a box did not work.
	Detours uint64

	BoxesCreated     uint64 // boxes made
	BoxesFailed      uint64 // boxes that could not be started, or came to an unwanted end
	BoxesStopped     uint64 // boxes that ended as they were meant to
	CommandsExecuted uint64 // commands started
	ExecErrors       uint64 // commands that could not be started
}

// Counters returns how often the runtime has done what it counts; zeros once it is closed.
func (r *Runtime) Counters() Counters {
	defer runtime.KeepAlive(r)
	var c Counters
	r.core.handle.use(func(p *C.boxlite_runtime) {
		count := func(counter C.int32_t) uint64 { return uint64(C.boxlite_runtime_counter(p, counter)) }
		c = Counters{
			ColdStarts:        count(C.BOXLITE_COUNTER_COLD_STARTS),
			RestoredStarts:    count(C.BOXLITE_COUNTER_RESTORED_STARTS),
			PooledStarts:      count(C.BOXLITE_COUNTER_POOLED_STARTS),
			TemplatesMade:     count(C.BOXLITE_COUNTER_TEMPLATES_MADE),
			DiskTemplatesMade: count(C.BOXLITE_COUNTER_DISK_TEMPLATES_MADE),
			Detours:           count(C.BOXLITE_COUNTER_DETOURS),
			BoxesCreated:      count(C.BOXLITE_COUNTER_BOXES_CREATED),
			BoxesFailed:       count(C.BOXLITE_COUNTER_BOXES_FAILED),
			BoxesStopped:      count(C.BOXLITE_COUNTER_BOXES_STOPPED),
			CommandsExecuted:  count(C.BOXLITE_COUNTER_COMMANDS_EXECUTED),
			ExecErrors:        count(C.BOXLITE_COUNTER_EXEC_ERRORS),
		}
	})
	return c
}

// Create makes a box. Its image is read and made into a disk, unless that was done before; nothing
// runs yet.
//
// Errors: ErrImage (missing, damaged, of another architecture), ErrAlreadyExists (the name),
// ErrInvalidArgument or ErrResourceExhausted (a disk smaller than the image, a full host disk).
func (r *Runtime) Create(ctx context.Context, options BoxOptions) (*Box, error) {
	return r.box(ctx, func(op **C.boxlite_op) error {
		return options.c(func(o *C.boxlite_box_options) error {
			return r.core.handle.call(func(p *C.boxlite_runtime, e **C.boxlite_error) C.boxlite_status {
				return C.boxlite_box_create(p, o, op, e)
			})
		})
	}, nil)
}

// Get finds a box by its id or its name. Errors: ErrNotFound, ErrMetadata (what is stored of it cannot
// be read: it can only be removed).
func (r *Runtime) Get(ctx context.Context, idOrName string) (*Box, error) {
	var m memory
	defer m.free()
	name := m.text("idOrName", idOrName)
	if m.err != nil {
		return nil, m.err
	}
	return r.box(ctx, func(op **C.boxlite_op) error {
		return r.core.handle.call(func(p *C.boxlite_runtime, e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_box_get(p, name, op, e)
		})
	}, nil)
}

// Remove removes a box and its disk, by its id or its name, also one that cannot be read. One that
// runs is stopped at once if force is set, else it is ErrInvalidState.
func (r *Runtime) Remove(ctx context.Context, idOrName string, force bool) error {
	var m memory
	defer m.free()
	name := m.text("idOrName", idOrName)
	if m.err != nil {
		return m.err
	}
	return r.operate(ctx, func(op **C.boxlite_op) error {
		return r.core.handle.call(func(p *C.boxlite_runtime, e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_box_remove(p, name, C.bool(force), op, e)
		})
	}, nothing)
}
