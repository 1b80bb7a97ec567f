package boxlite

// #include <boxlite.h>
import "C"

import "runtime/cgo"

// The functions here are called by C, on the dispatching goroutine or inside a call that frees.
// They must not block: all they do is to tell goroutines that wait.

//export goDestroy
func goDestroy(handle C.uintptr_t) {
	cgo.Handle(handle).Delete()
}

//export goOnComplete
func goOnComplete(handle C.uintptr_t) {
	close(cgo.Handle(handle).Value().(chan struct{}))
}

//export goOnProgress
func goOnProgress(handle C.uintptr_t, progress *C.boxlite_progress) {
	cgo.Handle(handle).Value().(steps).put(progress)
}

//export goOnExit
func goOnExit(handle C.uintptr_t, code, signal C.int32_t, why *C.boxlite_error) {
	cgo.Handle(handle).Value().(*execState).onExit(int(code), int(signal), why)
}

//export goOnReady
func goOnReady(handle C.uintptr_t, stream C.int32_t) {
	cgo.Handle(handle).Value().(*execState).onReady(int(stream))
}

//export goOnEvent
func goOnEvent(handle C.uintptr_t, event *C.boxlite_event) {
	cgo.Handle(handle).Value().(*eventQueue).push(newEvent(event))
}
