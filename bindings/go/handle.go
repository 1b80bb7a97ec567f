package boxlite

// #include <boxlite.h>
import "C"

import "sync"

// A handle owns a pointer of C's. Calls with it share it; freeing it waits for the calls, which are
// all short: nothing in the C API that we use blocks.
type handle[P comparable] struct {
	mu   sync.RWMutex
	ptr  P // nil once freed
	free func(P)
}

// call makes a call with the pointer, or returns ErrClosed.
func (h *handle[P]) call(f func(ptr P, e **C.boxlite_error) C.boxlite_status) error {
	err := ErrClosed
	h.use(func(ptr P) {
		err = call(func(e **C.boxlite_error) C.boxlite_status { return f(ptr, e) })
	})
	return err
}

// use makes a call that cannot fail with the pointer, unless it was freed.
func (h *handle[P]) use(f func(ptr P)) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var none P
	if h.ptr != none {
		f(h.ptr)
	}
}

// close frees the pointer, unless that was done before.
func (h *handle[P]) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	var none P
	if h.ptr != none {
		h.free(h.ptr)
		h.ptr = none
	}
}
