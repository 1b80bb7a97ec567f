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

// takeText is the takeFunc of operations that result in a text.
func takeText(text *string) takeFunc {
	return func(op *C.boxlite_op, e **C.boxlite_error) C.boxlite_status {
		var taken *C.boxlite_text
		status := C.boxlite_op_take_text(op, &taken, e)
		if status == C.BOXLITE_OK {
			defer C.boxlite_text_free(taken)
			*text = C.GoString(C.boxlite_text_get(taken))
		}
		return status
	}
}

// operate runs an operation to its end. When the context ends, the operation is cancelled; the
// context's error is returned unless the operation was faster.
func (r *Runtime) operate(ctx context.Context, start startFunc, take takeFunc) error {
	return r.follow(ctx, start, take, nil)
}

// follow runs an operation as operate does, and tells how far it is unless tell is nil.
func (r *Runtime) follow(ctx context.Context, start startFunc, take takeFunc, tell func(Progress)) error {
	defer runtime.KeepAlive(r)
	if err := ctx.Err(); err != nil {
		return err
	}
	op := new(*C.boxlite_op)
	if err := start(op); err != nil {
		return err
	}
	defer func() {
		// Has no effect on one that has completed. Others are left when the runtime is closed, and when
		// the caller's function panics.
		C.boxlite_op_cancel(*op, nil)
		C.boxlite_op_free(*op)
	}()

	done := make(chan struct{})
	err := call(func(e **C.boxlite_error) C.boxlite_status {
		return C.bridge_op_on_complete(*op, C.uintptr_t(cgo.NewHandle(done)), e)
	})
	if err != nil {
		return err
	}
	var latest steps
	if tell != nil {
		if latest, err = newSteps(*op); err != nil {
			return err
		}
	}
	if err := r.wait(ctx, *op, done, latest, tell); err != nil {
		return err
	}
	err = call(func(e **C.boxlite_error) C.boxlite_status { return take(*op, e) })
	if errors.Is(err, ErrCancelled) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// wait waits until an operation has completed, which it does soon when the context has ended. The only
// error is ErrClosed.
func (r *Runtime) wait(ctx context.Context, op *C.boxlite_op, done <-chan struct{}, latest steps, tell func(Progress)) error {
	for {
		select {
		case progress := <-latest:
			tell(progress)
		case <-done:
			select {
			case progress := <-latest:
				tell(progress)
			default:
			}
			return nil
		case <-ctx.Done():
			C.boxlite_op_cancel(op, nil)
			select {
			case <-done:
				return nil
			case <-r.core.closed:
				return ErrClosed
			}
		case <-r.core.closed:
			return ErrClosed
		}
	}
}
