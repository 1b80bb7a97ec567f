package boxlite

// #include <boxlite.h>
import "C"

import (
	"bytes"
	"context"
	"syscall"
	"unsafe"
)

// An Output is what a command wrote, and how it ended.
type Output struct {
	// Status is how the command ended.
	Status ExitStatus
	// Stdout and Stderr are what it wrote, up to the limit.
	Stdout, Stderr []byte
	// StdoutDropped and StderrDropped count the bytes beyond the limit, which are gone.
	StdoutDropped, StderrDropped uint64
}

// Run runs a command in the box, which is started first if it does not run, and gathers what it
// writes: of stdout and of stderr up to limit bytes each. The rest is counted and dropped, and the
// command is not held up. It reads end of file on stdin; command.Stdin does not count. When the
// context ends, the command is killed.
//
// A command that ends with a code other than 0, or cannot be found, is no error. Errors: those of
// [Box.Exec].
func (b *Box) Run(ctx context.Context, command Command, limit int) (*Output, error) {
	if limit < 0 {
		return nil, invalid("limit", "must not be negative")
	}
	var out *C.boxlite_output
	err := command.c(func(o *C.boxlite_exec_options) error {
		return b.operate(ctx, func(p *C.boxlite_box, op **C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_box_run(p, o, C.size_t(limit), op, e)
		}, func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_op_take_output(op, &out, e)
		})
	})
	if err != nil {
		return nil, err
	}
	defer C.boxlite_output_free(out)
	return newOutput(out), nil
}

// Run runs one command in a new box made from an image, and removes the box whatever happens.
// Without args the image's own command is run. Otherwise as [Box.Run].
func (r *Runtime) Run(ctx context.Context, image string, args []string, limit int) (*Output, error) {
	if limit < 0 {
		return nil, invalid("limit", "must not be negative")
	}
	var out *C.boxlite_output
	box, command := BoxOptions{Image: image}, Command{Args: args}
	err := r.operate(ctx, func(op **C.boxlite_op) error {
		return box.c(func(b *C.boxlite_box_options) error {
			return command.c(func(c *C.boxlite_exec_options) error {
				return r.core.handle.call(func(p *C.boxlite_runtime, e **C.boxlite_error) C.boxlite_status {
					return C.boxlite_runtime_run(p, b, c, C.size_t(limit), op, e)
				})
			})
		})
	}, func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_op_take_output(op, &out, e)
	})
	if err != nil {
		return nil, err
	}
	defer C.boxlite_output_free(out)
	return newOutput(out), nil
}

func newOutput(out *C.boxlite_output) *Output {
	captured := func(stream C.int32_t) ([]byte, uint64) {
		var length C.size_t
		data := C.boxlite_output_bytes(out, stream, &length)
		return bytes.Clone(unsafe.Slice((*byte)(data), length)), uint64(C.boxlite_output_dropped(out, stream))
	}
	o := &Output{Status: ExitStatus{
		Code:    int(C.boxlite_output_code(out)),
		Signal:  syscall.Signal(C.boxlite_output_signal(out)),
		Message: C.GoString(C.boxlite_output_message(out)),
	}}
	o.Stdout, o.StdoutDropped = captured(C.BOXLITE_STDOUT)
	o.Stderr, o.StderrDropped = captured(C.BOXLITE_STDERR)
	return o
}
