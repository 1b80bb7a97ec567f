package boxlite

// #include "bridge.h"
import "C"

import (
	"context"
	"io"
	"runtime"
	"runtime/cgo"
	"strconv"
	"sync"
	"syscall"
)

// An ExitStatus is how a command ended.
type ExitStatus struct {
	// Code is the exit code, or 128 + Signal if a signal ended the command.
	Code int
	// Signal is the signal that ended the command, or 0.
	Signal syscall.Signal
	// Message tells why the command could not be run, if Code is 126 or 127 for that reason.
	Message string
}

// Success tells whether the exit code is 0.
func (s ExitStatus) Success() bool { return s.Code == 0 }

// String describes the status for people.
func (s ExitStatus) String() string {
	switch {
	case s.Message != "":
		return s.Message
	case s.Signal != 0:
		return "signal: " + s.Signal.String()
	default:
		return "exit status " + strconv.Itoa(s.Code)
	}
}

// An Exec is a command that runs, or ran, in a box.
//
// Output that is not read waits, up to 256 KiB for each stream; then the command waits, as on a
// pipe. It holds up nothing else. A command that is detached does not wait: see [GapError].
type Exec struct {
	runtime        *Runtime
	handle         *handle[*C.boxlite_exec]
	state          *execState
	ctx            context.Context
	stdin          stdin
	stdout, stderr output
}

// An execState is what callbacks tell to goroutines that wait.
type execState struct {
	ready  [3]chan struct{} // by stream: it may be read or written again
	closed chan struct{}    // by Close

	exited chan struct{}
	status ExitStatus // good after exited
	err    error      // good after exited

	mu      sync.Mutex
	unwatch func() bool // stops watching the context
	inTime  bool        // that was before the context ended

	killed  chan struct{}
	killErr error // good after killed
}

func newExec(ctx context.Context, r *Runtime, ptr *C.boxlite_exec) (*Exec, error) {
	state := &execState{closed: make(chan struct{}), exited: make(chan struct{}), killed: make(chan struct{})}
	for stream := range state.ready {
		state.ready[stream] = make(chan struct{}, 1)
	}
	e := &Exec{runtime: r, state: state, ctx: ctx, handle: &handle[*C.boxlite_exec]{ptr: ptr}}
	e.handle.free = func(p *C.boxlite_exec) {
		state.stopWatching()
		C.boxlite_exec_free(p)
		close(state.closed)
	}
	e.stdin.exec = e
	e.stdout = output{exec: e, number: C.BOXLITE_STDOUT}
	e.stderr = output{exec: e, number: C.BOXLITE_STDERR}
	// A context that may end keeps the Exec from being collected until the command has ended.
	if state.inTime = ctx.Done() == nil; !state.inTime {
		state.unwatch = context.AfterFunc(ctx, e.kill)
	}

	err := e.handle.call(func(p *C.boxlite_exec, e **C.boxlite_error) C.boxlite_status {
		if status := C.bridge_exec_on_ready(p, C.uintptr_t(cgo.NewHandle(state)), e); status != C.BOXLITE_OK {
			return status
		}
		return C.bridge_exec_on_exit(p, C.uintptr_t(cgo.NewHandle(state)), e)
	})
	if err != nil {
		e.handle.close()
		return nil, err
	}
	if err := r.core.adopt(e.handle); err != nil {
		return nil, err
	}
	core := r.core
	runtime.AddCleanup(e, func(h *handle[*C.boxlite_exec]) { core.closeChild(h) }, e.handle)
	return e, nil
}

// onReady is called when a stream is ready again. A goroutine that does not wait yet finds the
// token later.
func (s *execState) onReady(stream int) {
	select {
	case s.ready[stream] <- struct{}{}:
	default:
	}
}

// onExit is called once, when the command has ended and what is read of its output was read.
func (s *execState) onExit(code, signal int, why *C.boxlite_error) {
	switch {
	case why == nil:
		s.status = ExitStatus{Code: code, Signal: syscall.Signal(signal)}
	case code < 0:
		s.err = newError(ErrInternal, why)
	default:
		s.status = ExitStatus{Code: code, Message: C.GoString(C.boxlite_error_message(why))}
	}
	s.stopWatching()
	close(s.exited)
}

// stopWatching stops watching the context, and tells whether that was before it ended.
func (s *execState) stopWatching() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unwatch != nil {
		s.inTime = s.unwatch()
		s.unwatch = nil
	}
	return s.inTime
}

// kill ends the command because its context has ended.
func (e *Exec) kill() {
	e.state.killErr = e.Signal(context.WithoutCancel(e.ctx), syscall.SIGKILL)
	close(e.state.killed)
}

// Close lets go of the command. One that still runs goes on, whatever becomes of its context: its
// stdin is closed, and what it writes is dropped, unless it is detached. It always returns nil.
func (e *Exec) Close() error {
	e.runtime.core.closeChild(e.handle)
	return nil
}

// Signal sends a signal to the command's process group. Errors: ErrNotFound (the command has
// ended), ErrInvalidArgument (no such signal).
func (e *Exec) Signal(ctx context.Context, signal syscall.Signal) error {
	defer runtime.KeepAlive(e)
	return e.runtime.operate(ctx, func(op **C.boxlite_op) error {
		return e.handle.call(func(p *C.boxlite_exec, e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_exec_signal(p, C.int32_t(signal), op, e)
		})
	}, nothing)
}

// Wait waits until the command has ended, and returns how. An exit code other than 0 is no error.
// If the command's box ended first, the error is the box's. If the context that was given to
// [Box.Exec] ended first, the command was killed and the error is that context's. The context given
// here is for the wait only: when it ends, its error is returned and the command goes on.
//
// What was not asked for by Stdout or Stderr before the first Wait is dropped. An output that is
// being read is waited for: read it to its end, or close it. Wait may be called many times, and by
// many goroutines.
func (e *Exec) Wait(ctx context.Context) (ExitStatus, error) {
	defer runtime.KeepAlive(e)
	e.stdout.dropUnasked()
	e.stderr.dropUnasked()
	s := e.state
	select {
	case <-s.exited:
	case <-s.killed:
	case <-ctx.Done():
		return ExitStatus{}, ctx.Err()
	case <-s.closed:
	}
	// Several may have happened.
	select {
	case <-s.exited:
		if s.stopWatching() {
			return s.status, s.err
		}
		<-s.killed
		if s.killErr != nil {
			return s.status, s.err
		}
		return ExitStatus{}, e.ctx.Err()
	case <-s.killed:
		return ExitStatus{}, e.ctx.Err()
	default:
		return ExitStatus{}, ErrClosed
	}
}

// Stdin returns the command's stdin, for which [Command].Stdin must be set. A Write returns when all
// bytes are on their way, of which a bounded number may not have been read yet: it waits for a
// command that does not read. Close makes the command read end of file after what was written; it
// may be called during a Write. After the command's end, a Write fails with syscall.EPIPE.
func (e *Exec) Stdin() io.WriteCloser { return &e.stdin }

// Stdout returns what the command writes to its stdout, byte by byte as it was written. A Read waits
// for output; at the end it is io.EOF, or the box's error if the box ended before the command. Where
// bytes of a command that is followed are gone it is a [*GapError], once, and reads go on. Close
// drops the rest, so that the command is not held up; it may be called during a Read.
func (e *Exec) Stdout() io.ReadCloser { return e.stdout.ask() }

// Stderr returns what the command writes to its stderr; otherwise as [Exec.Stdout].
func (e *Exec) Stderr() io.ReadCloser { return e.stderr.ask() }
