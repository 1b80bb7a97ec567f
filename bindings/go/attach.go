package boxlite

// #include <boxlite.h>
import "C"

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"time"
)

// A GapError is returned by a read where bytes of an output are no longer held: in order, between what
// came before and what comes after them, which further reads return. Only commands that are followed,
// the detached ones and main processes, have gaps. It matches [ErrGap].
type GapError struct {
	// Bytes is how many are missing.
	Bytes uint64
}

// Error tells how many bytes are missing.
func (e *GapError) Error() string {
	return fmt.Sprintf("boxlite: %d bytes of the output are no longer held", e.Bytes)
}

// Unwrap returns ErrGap.
func (e *GapError) Unwrap() error { return ErrGap }

// Offsets are numbers of bytes of a command's two outputs, counted since its beginning.
type Offsets struct {
	Stdout, Stderr uint64
}

// An ExecInfo is what a command of a box is, and how it was when the commands were listed.
type ExecInfo struct {
	// ID is the number for [Box.Attach], unique in a run of the box.
	ID uint32
	// Args are the command and its arguments: as many as fit into 512 bytes.
	Args []string
	// StartedAt is when it was started, in UTC.
	StartedAt time.Time
	Main      bool // it is the box's main process
	Detached  bool // its output can be followed
	Running   bool // it has not ended
	// Status is how it ended; its Code is -1 while it runs.
	Status ExitStatus
	// First has the offsets of the first bytes that are still held, and Total counts all that were
	// written; zeros if it is not detached.
	First, Total Offsets
}

// ListExecs tells about the commands that run in the box, whichever program has started them, and
// about detached ones that have ended: the last 32, and the main process. They come in the order in
// which they were started. A box that does not run has none.
func (b *Box) ListExecs(ctx context.Context) ([]ExecInfo, error) {
	var list *C.boxlite_exec_list
	err := b.operate(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_list_execs(p, op, e)
	}, func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_op_take_exec_list(op, &list, e)
	})
	if err != nil {
		return nil, err
	}
	defer C.boxlite_exec_list_free(list)
	infos := make([]ExecInfo, C.boxlite_exec_list_count(list))
	for i := range infos {
		infos[i] = newExecInfo(C.boxlite_exec_list_get(list, C.size_t(i)))
	}
	return infos, nil
}

func newExecInfo(info *C.boxlite_exec_info) ExecInfo {
	i := ExecInfo{
		ID:        uint32(C.boxlite_exec_info_id(info)),
		StartedAt: parseTime(C.boxlite_exec_info_started_at(info)),
		Main:      bool(C.boxlite_exec_info_is_main(info)),
		Detached:  bool(C.boxlite_exec_info_is_detached(info)),
		Running:   bool(C.boxlite_exec_info_is_running(info)),
		Status: ExitStatus{
			Code:   int(C.boxlite_exec_info_code(info)),
			Signal: syscall.Signal(C.boxlite_exec_info_signal(info)),
		},
		First: offsets(func(stream C.int32_t) C.uint64_t { return C.boxlite_exec_info_first(info, stream) }),
		Total: offsets(func(stream C.int32_t) C.uint64_t { return C.boxlite_exec_info_total(info, stream) }),
	}
	for n := C.size_t(0); n < C.boxlite_exec_info_argument_count(info); n++ {
		i.Args = append(i.Args, C.GoString(C.boxlite_exec_info_argument(info, n)))
	}
	return i
}

func offsets(of func(stream C.int32_t) C.uint64_t) Offsets {
	return Offsets{Stdout: uint64(of(C.BOXLITE_STDOUT)), Stderr: uint64(of(C.BOXLITE_STDERR))}
}

// Attach follows the output of a detached command, whichever program has started it, from the given
// offsets on. Any number of programs may follow a command, and none holds it or another up: what is
// no longer held when it is read is a [GapError]. There is no stdin; signals work. When the box has
// ended, what it left can be followed until it is started again. The context is for the attaching
// only: when it ends later, the command goes on.
//
// Errors: ErrNotFound (no such command, or it ended long ago), ErrInvalidState (it is not detached),
// ErrInvalidArgument (an offset beyond what it has written), ErrUnsupported (the box is run by another
// version of the library).
func (b *Box) Attach(ctx context.Context, id uint32, from Offsets) (*Exec, error) {
	return b.attach(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_attach(p, C.uint32_t(id), C.uint64_t(from.Stdout), C.uint64_t(from.Stderr), op, e)
	})
}

// AttachMain follows the output of the box's main process, or that of its last run if the box has
// ended; otherwise as [Box.Attach]. Errors: ErrInvalidState (the box has none), ErrNotFound (it was
// never started).
func (b *Box) AttachMain(ctx context.Context, from Offsets) (*Exec, error) {
	return b.attach(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_attach_main(p, C.uint64_t(from.Stdout), C.uint64_t(from.Stderr), op, e)
	})
}

func (b *Box) attach(ctx context.Context, start func(*C.boxlite_box, **C.boxlite_op, **C.boxlite_error) C.boxlite_status) (*Exec, error) {
	var ptr *C.boxlite_exec
	err := b.operate(ctx, start, func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_op_take_exec(op, &ptr, e)
	})
	if err != nil {
		return nil, err
	}
	return newExec(context.WithoutCancel(ctx), b.runtime, ptr)
}

// ID returns the number by which any program can attach to the command, if it is detached: unique in
// a run of its box. It is 0 if the command could not be run, and once the Exec is closed.
func (e *Exec) ID() uint32 {
	defer runtime.KeepAlive(e)
	var id C.uint32_t
	e.handle.use(func(p *C.boxlite_exec) { id = C.boxlite_exec_id(p) })
	return uint32(id)
}

// Offsets returns the offsets of the bytes that are read next: where [Box.Attach] would go on. They
// are zeros once the Exec is closed.
func (e *Exec) Offsets() Offsets {
	defer runtime.KeepAlive(e)
	var at Offsets
	e.handle.use(func(p *C.boxlite_exec) {
		at = offsets(func(stream C.int32_t) C.uint64_t { return C.boxlite_exec_offset(p, stream) })
	})
	return at
}

// Lost counts the bytes that were gone when it was their turn to be read; zeros once the Exec is
// closed.
func (e *Exec) Lost() Offsets {
	defer runtime.KeepAlive(e)
	var lost Offsets
	e.handle.use(func(p *C.boxlite_exec) {
		lost = offsets(func(stream C.int32_t) C.uint64_t { return C.boxlite_exec_lost(p, stream) })
	})
	return lost
}
