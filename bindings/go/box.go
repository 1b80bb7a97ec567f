package boxlite

// #include <boxlite.h>
import "C"

import (
	"context"
	"runtime"
	"time"
)

// A Box is a box of a home, running or not.
type Box struct {
	runtime *Runtime
	handle  *handle[*C.boxlite_box]
	id      string
	name    string
}

// box runs an operation that results in a box, and tells how far it is unless tell is nil.
func (r *Runtime) box(ctx context.Context, start startFunc, tell func(Progress)) (*Box, error) {
	var ptr *C.boxlite_box
	err := r.follow(ctx, start, func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_op_take_box(op, &ptr, e)
	}, tell)
	if err != nil {
		return nil, err
	}
	return r.adopt(ptr)
}

// adopt makes a Box of one of C's, which is freed with it or with the runtime.
func (r *Runtime) adopt(ptr *C.boxlite_box) (*Box, error) {
	b := &Box{
		runtime: r,
		handle:  &handle[*C.boxlite_box]{ptr: ptr, free: func(p *C.boxlite_box) { C.boxlite_box_free(p) }},
		id:      C.GoString(C.boxlite_box_id(ptr)),
		name:    C.GoString(C.boxlite_box_name(ptr)),
	}
	if err := r.core.adopt(b.handle); err != nil {
		return nil, err
	}
	core := r.core
	runtime.AddCleanup(b, func(h *handle[*C.boxlite_box]) { core.closeChild(h) }, b.handle)
	return b, nil
}

// Close lets go of the box, which itself stays as it is. It always returns nil.
func (b *Box) Close() error {
	b.runtime.core.closeChild(b.handle)
	return nil
}

// ID returns the box's id.
func (b *Box) ID() string { return b.id }

// Name returns the box's name; it is empty if the box has none.
func (b *Box) Name() string { return b.name }

// startBoxFunc starts an operation on a box.
type startBoxFunc func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status

// operate runs an operation on the box.
func (b *Box) operate(ctx context.Context, start startBoxFunc, take takeFunc) error {
	return b.follow(ctx, start, take, nil)
}

// follow runs an operation on the box, and tells how far it is unless tell is nil.
func (b *Box) follow(ctx context.Context, start startBoxFunc, take takeFunc, tell func(Progress)) error {
	defer runtime.KeepAlive(b)
	return b.runtime.follow(ctx, func(op **C.boxlite_op) error {
		return b.handle.call(func(p *C.boxlite_box, e **C.boxlite_error) C.boxlite_status {
			return start(p, op, e)
		})
	}, take, tell)
}

// Start launches the box's machine and mounts its disk. A box that runs stays as it is.
//
// Errors: ErrEngine (QEMU or the guest kernel is missing or ended), ErrTimeout (the guest did not
// come up within BoxOptions.StartTimeout), ErrUnsupportedEngine (KVM was demanded and does not
// work), ErrExecution (the main process could not be run), ErrBusy (another program is changing the
// box), ErrMetadata (what is stored of it cannot be read).
func (b *Box) Start(ctx context.Context) error {
	return b.operate(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_start(p, op, e)
	}, nothing)
}

// Stop ends the box: its processes get SIGTERM and the grace to end, then SIGKILL, and its disk is
// unmounted. A box that does not run stays as it is.
func (b *Box) Stop(ctx context.Context, grace time.Duration) error {
	ms, err := milliseconds("grace", grace)
	if err != nil {
		return err
	}
	return b.operate(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_stop(p, ms, op, e)
	}, nothing)
}

// Pause has the box stand still: its processes do not run until it is resumed, and keep their memory.
// A box that does already stays as it is. While it is paused, commands cannot be started; stopping it
// works. Error: ErrInvalidState (it does not run).
func (b *Box) Pause(ctx context.Context) error {
	return b.operate(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_pause(p, op, e)
	}, nothing)
}

// Resume has a paused box go on, also one that was paused because the host's disk was full, which
// Info.Reason tells. A box that runs stays as it is. Error: ErrInvalidState (it does not run).
func (b *Box) Resume(ctx context.Context) error {
	return b.operate(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_resume(p, op, e)
	}, nothing)
}

// Inspect tells what the box is and how it is. Errors: ErrNotFound (it was removed), ErrMetadata (what
// is stored of it cannot be read).
func (b *Box) Inspect(ctx context.Context) (Info, error) {
	var info *C.boxlite_box_info
	err := b.operate(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_inspect(p, op, e)
	}, func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_op_take_info(op, &info, e)
	})
	if err != nil {
		return Info{}, err
	}
	defer C.boxlite_box_info_free(info)
	return newInfo(info), nil
}

// Exec starts a command in the box, which is started first if it does not run. When the context
// ends, at any time until the command has, the command is killed; see [Exec.Wait]. Of a command that
// is detached, the context is for its start only.
//
// A command that does not exist or may not be executed is no error here: it exits with 127 or 126.
// Errors: those of Start, ErrInvalidArgument (no such user or working directory),
// ErrResourceExhausted (in the guest), ErrStopped or ErrEngine (the box ended meanwhile).
func (b *Box) Exec(ctx context.Context, command Command) (*Exec, error) {
	var ptr *C.boxlite_exec
	err := command.c(func(o *C.boxlite_exec_options) error {
		return b.operate(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_box_exec(p, o, op, e)
		}, func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_op_take_exec(op, &ptr, e)
		})
	})
	if err != nil {
		return nil, err
	}
	if command.Detach {
		ctx = context.WithoutCancel(ctx)
	}
	return newExec(ctx, b.runtime, ptr)
}
