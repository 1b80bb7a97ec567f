package boxlite

// #include "bridge.h"
import "C"

import (
	"cmp"
	"context"
	"iter"
	"math"
	"runtime"
	"runtime/cgo"
	"sync"
	"time"
)

// defaultCapacity is the library's.
const defaultCapacity = 1024

// A Subscription is events of a runtime's boxes that wait to be taken.
type Subscription struct {
	runtime *Runtime
	handle  *handle[*C.boxlite_subscription]
	queue   *eventQueue
}

// Subscribe begins to listen to what happens to boxes from now on: what this runtime does, and what
// happens to boxes that it runs or is connected to, whoever does it. What another program does to
// boxes that this runtime has never used is not seen. Events of one box come in the order in which
// they happened, each once, and the end of a command before that of its box.
//
// Up to capacity events wait to be taken, 1 to 65536, or 0 for 1024. Of those for which there is no
// room nothing is held up: they are counted, and an EventOverflow stands in their place. Any number of
// subscriptions each have events of their own.
func (r *Runtime) Subscribe(capacity int) (*Subscription, error) {
	if capacity < 0 || capacity > math.MaxInt32 {
		return nil, invalid("capacity", "must be from 1 to 65536, or 0")
	}
	queue := &eventQueue{
		capacity: cmp.Or(capacity, defaultCapacity),
		more:     make(chan struct{}, 1),
		ended:    make(chan struct{}),
	}
	var ptr *C.boxlite_subscription
	err := r.core.handle.call(func(p *C.boxlite_runtime, e **C.boxlite_error) C.boxlite_status {
		return C.bridge_runtime_subscribe(p, C.uint32_t(capacity), C.uintptr_t(cgo.NewHandle(queue)), &ptr, e)
	})
	if err != nil {
		return nil, err
	}
	s := &Subscription{runtime: r, queue: queue, handle: &handle[*C.boxlite_subscription]{ptr: ptr}}
	s.handle.free = func(p *C.boxlite_subscription) {
		C.boxlite_subscription_free(p)
		queue.end()
	}
	if err := r.core.adopt(s.handle); err != nil {
		return nil, err
	}
	core := r.core
	runtime.AddCleanup(s, func(h *handle[*C.boxlite_subscription]) { core.closeChild(h) }, s.handle)
	return s, nil
}

// Next takes the next event, and waits for one until the context ends. Once the runtime is closed it
// returns what happened up to that, and then [ErrClosed]; once the subscription itself is closed,
// ErrClosed. Several goroutines may share the events of a subscription: each event goes to one.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	defer runtime.KeepAlive(s)
	if err := ctx.Err(); err != nil {
		return Event{}, err
	}
	for {
		if event, ok := s.queue.pop(); ok {
			return event, nil
		}
		select {
		case <-s.queue.more:
			// Whoever takes the token looks, also when the context has ended: nobody else is woken.
		case <-ctx.Done():
			return Event{}, ctx.Err()
		case <-s.queue.ended:
			// Something may have come in between.
			if event, ok := s.queue.pop(); ok {
				return event, nil
			}
			return Event{}, ErrClosed
		}
	}
}

// Events returns the events as they come, until the context ends, or the subscription or the runtime
// is closed: see [Subscription.Next].
//
//	for event := range subscription.Events(ctx) { ... }
//
// The subscription may be closed in the loop. One that is left goes on, and may be taken up again.
func (s *Subscription) Events(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for {
			event, err := s.Next(ctx)
			if err != nil || !yield(event) {
				return
			}
		}
	}
}

// Close ends the subscription, and drops the events that wait. It always returns nil.
func (s *Subscription) Close() error {
	s.runtime.core.closeChild(s.handle)
	s.queue.clear()
	return nil
}

// An eventQueue keeps events from dispatch, which must not wait, until a goroutine takes them. The
// library's own queue is emptied at once by that, so this one is what is bounded.
type eventQueue struct {
	capacity int
	more     chan struct{} // has a token while there may be something to take
	ended    chan struct{} // closed when nothing more comes

	mu      sync.Mutex
	waiting []queuedEvent
	lost    uint64 // how many are missing after the last one
}

type queuedEvent struct {
	lost uint64 // how many are missing right before it
	Event
}

// push is called by dispatch.
func (q *eventQueue) push(event Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.hasEnded():
		return
	case event.Kind == EventOverflow:
		q.lost += event.Lost
	case len(q.waiting) == q.capacity:
		q.lost++
	default:
		q.waiting = append(q.waiting, queuedEvent{lost: q.lost, Event: event})
		q.lost = 0
	}
	q.signal()
}

// pop takes what comes next, if there is anything.
func (q *eventQueue) pop() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	missing := &q.lost
	if len(q.waiting) > 0 {
		missing = &q.waiting[0].lost
	}
	var event Event
	switch {
	case *missing > 0:
		event = Event{Kind: EventOverflow, Time: time.Now().UTC().Truncate(time.Microsecond), Lost: *missing}
		*missing = 0
	case len(q.waiting) > 0:
		event = q.waiting[0].Event
		q.waiting[0] = queuedEvent{}
		q.waiting = q.waiting[1:]
	default:
		return Event{}, false
	}
	// Another goroutine may wait for what is left.
	if len(q.waiting) > 0 || q.lost > 0 {
		q.signal()
	}
	return event, true
}

func (q *eventQueue) signal() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// end has nothing more come.
func (q *eventQueue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.ended)
}

func (q *eventQueue) hasEnded() bool {
	select {
	case <-q.ended:
		return true
	default:
		return false
	}
}

// clear drops what waits.
func (q *eventQueue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting, q.lost = nil, 0
}
