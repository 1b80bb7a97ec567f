package boxlite

// #include <boxlite.h>
import "C"

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// await waits until a stream on which a call would have blocked is ready.
func (e *Exec) await(stream int) error {
	select {
	case <-e.state.ready[stream]:
		return nil
	case <-e.state.closed:
		return ErrClosed
	}
}

// An output is the reader of stdout or stderr.
type output struct {
	exec   *Exec
	number C.int32_t
	mu     sync.Mutex // one reads at a time
	lost   uint64     // bytes in gaps that were returned; guarded by mu
	closed atomic.Bool

	ownership sync.Mutex
	asked     bool
}

// ask notes that the program reads this output.
func (o *output) ask() io.ReadCloser {
	o.ownership.Lock()
	defer o.ownership.Unlock()
	o.asked = true
	return o
}

// dropUnasked drops the output if the program does not read it.
func (o *output) dropUnasked() {
	o.ownership.Lock()
	defer o.ownership.Unlock()
	if !o.asked {
		o.asked = true
		o.Close()
	}
}

func (o *output) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for {
		var n C.size_t
		var lost uint64
		err := o.exec.handle.call(func(ptr *C.boxlite_exec, e **C.boxlite_error) C.boxlite_status {
			status := C.boxlite_exec_read(ptr, o.number, (*C.uint8_t)(&p[0]), C.size_t(len(p)), &n, e)
			if status == C.BOXLITE_GAP {
				lost = uint64(C.boxlite_exec_lost(ptr, o.number))
			}
			return status
		})
		switch {
		case o.closed.Load():
			return 0, ErrClosed
		case err == nil && n == 0:
			return 0, io.EOF
		case err == nil:
			return int(n), nil
		case errors.Is(err, ErrGap):
			gap := &GapError{Bytes: lost - o.lost}
			o.lost = lost
			return 0, gap
		case !errors.Is(err, ErrWouldBlock):
			return 0, err
		}
		if err := o.exec.await(int(o.number)); err != nil {
			return 0, err
		}
	}
}

func (o *output) Close() error {
	if o.closed.Swap(true) {
		return nil
	}
	err := o.exec.handle.call(func(p *C.boxlite_exec, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_exec_discard(p, o.number, e)
	})
	// A Read that waits finds it closed.
	o.exec.state.onReady(int(o.number))
	if err == ErrClosed {
		return nil
	}
	return err
}

// A stdin is the writer of a command's stdin.
type stdin struct {
	exec   *Exec
	mu     sync.Mutex // one writes at a time
	closed atomic.Bool
}

func (s *stdin) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for total < len(p) {
		rest := p[total:]
		var n C.size_t
		err := s.exec.handle.call(func(ptr *C.boxlite_exec, e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_exec_write(ptr, (*C.uint8_t)(&rest[0]), C.size_t(len(rest)), &n, e)
		})
		total += int(n)
		switch {
		case err == nil:
			continue
		case s.closed.Load():
			return total, ErrClosed
		case !errors.Is(err, ErrWouldBlock):
			return total, err
		}
		if err := s.exec.await(C.BOXLITE_STDIN); err != nil {
			return total, err
		}
	}
	return total, nil
}

func (s *stdin) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := s.exec.handle.call(func(p *C.boxlite_exec, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_exec_close_stdin(p, e)
	})
	if err == ErrClosed {
		return nil
	}
	return err
}
