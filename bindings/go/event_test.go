package boxlite

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func subscribe(t *testing.T, rt *Runtime, capacity int) *Subscription {
	t.Helper()
	s, err := rt.Subscribe(capacity)
	ok(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// expect takes the next event, which is of this kind.
func expect(t *testing.T, s *Subscription, kind EventKind) Event {
	t.Helper()
	event, err := s.Next(within(t))
	ok(t, err)
	if event.Kind != kind {
		t.Fatalf("'%v' instead of '%v': %+v", event.Kind, kind, event)
	}
	return event
}

// expectNothing looks whether nothing waits. What has not happened cannot be waited for.
func expectNothing(t *testing.T, s *Subscription) {
	t.Helper()
	if event, ok := s.queue.pop(); ok {
		t.Fatalf("%+v came too", event)
	}
}

func runs(t *testing.T, box *Box, args ...string) ExitStatus {
	t.Helper()
	out, err := box.Run(within(t), Command{Args: args}, 1000)
	ok(t, err)
	return out.Status
}

func TestALifeIsToldInOrderAndToEverybody(t *testing.T) {
	ctx := within(t)
	dir := t.TempDir()
	rt := openWith(t, Options{Home: dir})
	listeners := []*Subscription{subscribe(t, rt, 0), subscribe(t, rt, 65536)}
	box := newBox(t, rt, BoxOptions{Name: "life"})
	ok(t, box.Start(ctx))
	exec, err := box.Exec(ctx, shell("exit 3"))
	ok(t, err)
	id := exec.ID()
	wait(t, exec)
	exec.Close()
	runs(t, box, "sh", "-c", "kill -9 $$")
	status := runs(t, box, "/no/such/program", "secret argument")
	ok(t, box.Pause(ctx))
	ok(t, box.Resume(ctx))
	ok(t, box.Stop(ctx, 0))
	exec, err = box.Exec(ctx, shell("sleep 1000"))
	ok(t, err)
	defer exec.Close()
	ok(t, killMachine(dir, box.ID()))
	if _, err := exec.Wait(ctx); !errors.Is(err, ErrEngine) {
		t.Fatal(err)
	}
	becomes(t, box, func(i Info) bool { return i.Status == StatusFailed })
	ok(t, rt.Remove(ctx, box.ID(), false))

	for _, s := range listeners {
		var all []Event
		next := func(kind EventKind) Event {
			t.Helper()
			event := expect(t, s, kind)
			if event.BoxID != box.ID() || event.BoxName != "life" || event.Lost != 0 {
				t.Fatalf("%+v", event)
			}
			all = append(all, event)
			return event
		}
		if e := next(EventBoxCreated); e.Text != "" || e.ExecID != 0 || e.Status != (ExitStatus{}) {
			t.Fatalf("%+v", e)
		}
		next(EventBoxStarted)
		if e := next(EventExecStarted); e.ExecID != id || e.Text != "sh" {
			t.Fatalf("%+v", e)
		}
		if e := next(EventExecEnded); e.ExecID != id || e.Status != (ExitStatus{Code: 3}) {
			t.Fatalf("%+v", e)
		}
		second := next(EventExecStarted).ExecID
		if e := next(EventExecEnded); second == id || e.ExecID != second || e.Status != (ExitStatus{Code: 137, Signal: syscall.SIGKILL}) {
			t.Fatalf("%+v", e)
		}
		if e := next(EventExecStarted); e.Text != "/no/such/program" {
			t.Fatalf("%+v", e)
		}
		if e := next(EventExecEnded); e.Status != status || status.Code != 127 || strings.Contains(e.Text, "secret") {
			t.Fatalf("%+v, not %+v", e, status)
		}
		if e := next(EventBoxPaused); e.Text != "" {
			t.Fatalf("%+v", e)
		}
		next(EventBoxResumed)
		next(EventBoxStopped)
		next(EventBoxStarted)
		last := next(EventExecStarted).ExecID
		if e := next(EventExecEnded); e.ExecID != last || e.Status.Code != -1 || e.Text == "" {
			t.Fatalf("%+v", e)
		}
		if e := next(EventBoxFailed); !strings.Contains(e.Text, "signal 9") {
			t.Fatalf("%+v", e)
		}
		next(EventBoxRemoved)
		expectNothing(t, s)

		fractions := 0
		for n, event := range all {
			if time.Since(event.Time).Abs() > time.Hour || n > 0 && event.Time.Before(all[n-1].Time) || event.Time.Location() != time.UTC {
				t.Fatalf("%v: %+v", event.Time, all)
			}
			if event.Time.Nanosecond()%int(time.Millisecond) != 0 {
				fractions++
			}
		}
		if fractions == 0 {
			t.Fatalf("no time has microseconds: %+v", all)
		}
	}
}

func TestWhoDoesNotAnswerIsTold(t *testing.T) {
	dir := t.TempDir()
	rt := openWith(t, Options{Home: dir})
	box := newBox(t, rt, BoxOptions{})
	ok(t, box.Start(within(t)))
	s := subscribe(t, rt, 0)
	ok(t, signalMachine(dir, box.ID(), syscall.SIGSTOP))
	event, err := s.Next(within(t))
	ok(t, signalMachine(dir, box.ID(), syscall.SIGCONT))
	if err != nil || event.Kind != EventUnresponsive || event.Text == "" {
		t.Fatal(event, err)
	}
	expect(t, s, EventResponsive)
}

func TestEventsThatDoNotFitAreCountedInTheirPlace(t *testing.T) {
	rt := openRuntime(t)
	box := newBox(t, rt, BoxOptions{})
	ok(t, box.Start(within(t)))
	narrow, wide := subscribe(t, rt, 1), subscribe(t, rt, 100)
	for range 10 {
		runs(t, box, "true")
	}
	// Who has room misses nothing.
	for range 10 {
		expect(t, wide, EventExecStarted)
		expect(t, wide, EventExecEnded)
	}
	expect(t, narrow, EventExecStarted)
	for lost := uint64(0); lost < 19; {
		event := expect(t, narrow, EventOverflow)
		if event.BoxID != "" || event.Status != (ExitStatus{}) || time.Since(event.Time).Abs() > time.Hour {
			t.Fatalf("%+v", event)
		}
		if lost += event.Lost; event.Lost == 0 || lost > 19 {
			t.Fatalf("%+v", event)
		}
	}
	expectNothing(t, narrow)
	// There is room again.
	ok(t, box.Pause(within(t)))
	expect(t, narrow, EventBoxPaused)
	ok(t, box.Resume(within(t)))
	expect(t, narrow, EventBoxResumed)

	for _, capacity := range []int{-1, 65537, 1 << 40} {
		var failure *Error
		if _, err := rt.Subscribe(capacity); !errors.As(err, &failure) || failure.Code != ErrInvalidArgument || failure.Object != "capacity" {
			t.Errorf("%d: %v", capacity, err)
		}
	}
}

// What a queue does however fast dispatch is.
func TestAnEventQueueHasItsGapsInTheirPlaces(t *testing.T) {
	for _, test := range []struct {
		capacity int
		wanted   []int // a command's number, or minus what is missing
	}{
		{1, []int{1, -6}},
		{3, []int{1, 2, 3, -2, 6, -1}},
		{99, []int{1, 2, 3, 4, 5, 6, 7}},
	} {
		q := &eventQueue{capacity: test.capacity, more: make(chan struct{}, 1), ended: make(chan struct{})}
		var got []int
		pop := func() bool {
			event, ok := q.pop()
			if ok {
				got = append(got, int(event.ExecID)-int(event.Lost))
			}
			return ok
		}
		push := func(from, to int) {
			for n := from; n <= to; n++ {
				q.push(Event{Kind: EventExecStarted, ExecID: uint32(n)})
			}
		}
		push(1, 5)
		if test.capacity > 1 {
			pop()
		}
		push(6, 7)
		for pop() {
		}
		// What the library has lost already counts too.
		q.push(Event{Kind: EventOverflow, Lost: 4})
		push(8, 8)
		for pop() {
		}
		if wanted := append(test.wanted, -4, 8); !slices.Equal(got, wanted) {
			t.Errorf("capacity %d: %v instead of %v", test.capacity, got, wanted)
		}
	}
}

// Of several that wait, whoever was woken wakes the next.
func TestAnEventQueueWakesAsLongAsThereIsSomething(t *testing.T) {
	q := &eventQueue{capacity: 1, more: make(chan struct{}, 1), ended: make(chan struct{})}
	for range 3 {
		q.push(Event{Kind: EventBoxCreated})
	}
	// An event, the two that are missing, and nothing.
	for left := 2; left >= 0; left-- {
		if tokens := len(q.more); tokens != min(left, 1) {
			t.Fatalf("%d tokens while %d wait", tokens, left)
		}
		if left > 0 {
			<-q.more
			q.pop()
		}
	}
}

// Who was woken when its context ended leaves nothing that nobody is told of.
func TestAnEventIsNotLostOverAContext(t *testing.T) {
	for range 2000 {
		q := &eventQueue{capacity: 10, more: make(chan struct{}, 1), ended: make(chan struct{})}
		s := &Subscription{queue: q}
		ctx, cancel := context.WithCancel(context.Background())
		patient, impatient := make(chan error, 1), make(chan error, 1)
		guard, stop := context.WithTimeout(context.Background(), 30*time.Second)
		go func() { _, err := s.Next(ctx); impatient <- err }()
		go func() { _, err := s.Next(guard); patient <- err }()
		runtime.Gosched()
		go cancel()
		q.push(Event{Kind: EventBoxCreated})
		if err := <-impatient; err == nil {
			q.push(Event{Kind: EventBoxRemoved})
		}
		ok(t, <-patient)
		stop()
	}
}

func TestASubscriptionIsClosedInItsLoop(t *testing.T) {
	rt := openRuntime(t)
	s, other := subscribe(t, rt, 0), subscribe(t, rt, 0)
	for range 3 {
		newBox(t, rt, BoxOptions{})
	}
	// A loop that is left loses nothing.
	for event := range s.Events(within(t)) {
		if event.Kind != EventBoxCreated {
			t.Fatalf("%+v", event)
		}
		break
	}
	count := 0
	for range s.Events(within(t)) {
		count++
		ok(t, s.Close())
		ok(t, s.Close())
	}
	if count != 1 {
		t.Fatalf("%d events", count)
	}
	if event, err := s.Next(within(t)); err != ErrClosed {
		t.Fatal(event, err)
	}
	for range 3 {
		expect(t, other, EventBoxCreated)
	}
}

func TestWhoWaitsForAnEventIsWoken(t *testing.T) {
	rt := openRuntime(t)
	goroutines := runtime.NumGoroutine()
	s := subscribe(t, rt, 0)
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if event, err := s.Next(short); err != context.DeadlineExceeded {
		t.Fatal(event, err)
	}
	for event := range s.Events(short) {
		t.Fatalf("%+v", event)
	}
	results := make(chan error, 4)
	next := func() {
		_, err := s.Next(within(t))
		results <- err
	}
	// Each event goes to one.
	for range 4 {
		go next()
	}
	newBox(t, rt, BoxOptions{})
	newBox(t, rt, BoxOptions{})
	ok(t, <-results)
	ok(t, <-results)
	ok(t, s.Close())
	for range 2 {
		if err := <-results; err != ErrClosed {
			t.Fatal(err)
		}
	}
	if !eventually(func() bool { return runtime.NumGoroutine() <= goroutines }) {
		t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
	}
}

func TestARuntimeTellsItsEndBeforeItIsClosed(t *testing.T) {
	dir := t.TempDir()
	rt := openWith(t, Options{Home: dir})
	box, err := rt.Create(within(t), BoxOptions{Image: busybox()})
	ok(t, err)
	ok(t, box.Start(within(t)))
	wanted := []EventKind{EventBoxStopped}
	for range 30 {
		_, err = box.Exec(within(t), Command{Args: []string{"sleep", "1000"}})
		ok(t, err)
		wanted = slices.Insert(wanted, 0, EventExecEnded)
	}
	s, late := subscribe(t, rt, 0), subscribe(t, rt, 0)
	told := make(chan []EventKind)
	go func() {
		var kinds []EventKind
		for event := range s.Events(within(t)) {
			kinds = append(kinds, event.Kind)
		}
		told <- kinds
	}()
	// Dispatch is held up, so that as much as can be is still to be told when the boxes have ended.
	late.queue.mu.Lock()
	closed := make(chan error)
	go func() { closed <- rt.Close(within(t)) }()
	ended := eventually(func() bool { return countMachines(dir) == 0 })
	late.queue.mu.Unlock()
	ok(t, <-closed)
	if kinds := <-told; !ended || !slices.Equal(kinds, wanted) {
		t.Fatal(ended, kinds)
	}
	for _, kind := range wanted {
		expect(t, late, kind)
	}
	if event, err := late.Next(within(t)); err != ErrClosed {
		t.Fatal(event, err)
	}
	if _, err := rt.Subscribe(0); err != ErrClosed {
		t.Fatal(err)
	}
}

func TestAForgottenSubscriptionIsFreed(t *testing.T) {
	rt := openRuntime(t)
	_, err := rt.Subscribe(0)
	ok(t, err)
	children := func() int {
		rt.core.mu.Lock()
		defer rt.core.mu.Unlock()
		return len(rt.core.children)
	}
	if !eventually(func() bool { runtime.GC(); return children() == 0 }) {
		t.Fatal("it is still there")
	}
}

func TestEventKindsHaveNames(t *testing.T) {
	if EventBoxFailed.String() != "box failed" || EventOverflow.String() != "overflow" || EventKind(99).String() != "event 99" {
		t.Fatal(EventBoxFailed, EventOverflow, EventKind(99))
	}
}
