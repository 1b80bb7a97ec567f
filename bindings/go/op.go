package boxlite

// #include "bridge.h"
import "C"

import (
	"context"
	"errors"
	"runtime"
	"runtime/cgo"
)

type (
	// startFunc starts an operation.
	startFunc func(op **C.boxlite_op) error
	// takeFunc takes the result of an operation that has completed.
	takeFunc func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status
)

// nothing is the takeFunc of operations without a result.
func nothing(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
	return C.boxlite_op_status(op, e)
}

// operate runs an operation to its end. When the context ends, the operation is cancelled; the
// context's error is returned unless the operation was faster.
func (r *Runtime) operate(ctx context.Context, start startFunc, take takeFunc) error {
	defer runtime.KeepAlive(r)
	if err := ctx.Err(); err != nil {
		return err
	}
	op := new(*C.boxlite_op)
	if err := start(op); err != nil {
		return err
	}
	defer C.boxlite_op_free(*op)

	done := make(chan struct{})
	err := call(func(e **C.boxlite_error) C.boxlite_status {
		return C.bridge_op_on_complete(*op, C.uintptr_t(cgo.NewHandle(done)), e)
	})
	if err != nil {
		return err
	}
	select {
	case <-done:
	case <-ctx.Done():
		C.boxlite_op_cancel(*op, nil)
		select {
		case <-done:
		case <-r.core.closed:
			return ErrClosed
		}
	case <-r.core.closed:
		C.boxlite_op_cancel(*op, nil)
		return ErrClosed
	}
	err = call(func(e **C.boxlite_error) C.boxlite_status { return take(*op, e) })
	if errors.Is(err, ErrCancelled) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
