package boxlite

// #include "bridge.h"
import "C"

import "runtime/cgo"

// Progress is how far an operation is.
type Progress struct {
	BytesDone  uint64 // never more than BytesTotal
	BytesTotal uint64 // at least 1
}

// steps has how far an operation is, until somebody takes that: the latest only. Those who are slow
// hold up nothing. There is one that puts, the dispatcher; so after one was taken out, there is room.
type steps chan Progress

// newSteps follows an operation.
func newSteps(op *C.boxlite_op) (steps, error) {
	s := make(steps, 1)
	err := call(func(e **C.boxlite_error) C.boxlite_status {
		return C.bridge_op_on_progress(op, C.uintptr_t(cgo.NewHandle(s)), e)
	})
	return s, err
}

// put notes a count of bytes; stages have none.
func (s steps) put(progress *C.boxlite_progress) {
	total := uint64(C.boxlite_progress_bytes_total(progress))
	if total == 0 {
		return
	}
	select {
	case <-s:
	default:
	}
	s <- Progress{BytesDone: uint64(C.boxlite_progress_bytes_done(progress)), BytesTotal: total}
}
