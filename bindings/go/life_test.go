package boxlite

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newBox makes a box, and removes it with the test unless that was done.
func newBox(t *testing.T, rt *Runtime, options BoxOptions) *Box {
	t.Helper()
	options.Image = busybox()
	box, err := rt.Create(within(t), options)
	ok(t, err)
	t.Cleanup(func() {
		if err := rt.Remove(within(t), box.ID(), true); err != nil && !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		box.Close()
	})
	return box
}

func inspect(t *testing.T, box *Box) Info {
	t.Helper()
	info, err := box.Inspect(within(t))
	ok(t, err)
	return info
}

// becomes waits until a box is as wanted.
func becomes(t *testing.T, box *Box, wanted func(Info) bool) Info {
	t.Helper()
	var info Info
	if !eventually(func() bool { info = inspect(t, box); return wanted(info) }) {
		t.Fatalf("stayed %+v", info)
	}
	return info
}

func TestPauseAndResume(t *testing.T) {
	ctx := within(t)
	box := newBox(t, shared, BoxOptions{})
	if err := box.Pause(ctx); !errors.Is(err, ErrInvalidState) {
		t.Fatal(err)
	}
	exec, err := box.Exec(ctx, Command{Args: []string{"cat"}, Stdin: true})
	ok(t, err)
	defer exec.Close()
	stdout := exec.Stdout()
	ok(t, box.Pause(ctx))
	ok(t, box.Pause(ctx))
	if info := inspect(t, box); info.Status != StatusPaused {
		t.Fatal(info.Status)
	}
	if _, err := box.Run(ctx, shell("true"), 10); !errors.Is(err, ErrInvalidState) {
		t.Fatal(err)
	}
	_, err = exec.Stdin().Write([]byte("later\n"))
	ok(t, err)
	ok(t, exec.Stdin().Close())
	ok(t, box.Resume(ctx))
	ok(t, box.Resume(ctx))
	if got := readAll(t, stdout); got != "later\n" {
		t.Fatalf("%q", got)
	}
	if info := inspect(t, box); info.Status != StatusRunning {
		t.Fatal(info.Status)
	}
}

func TestAutoRemove(t *testing.T) {
	ctx := within(t)
	box := newBox(t, shared, BoxOptions{AutoRemove: true})
	ok(t, box.Start(ctx))
	if !inspect(t, box).AutoRemove || inspect(t, testBox).AutoRemove {
		t.Fatal("not as it was made")
	}
	ok(t, box.Stop(ctx, 0))
	if !eventually(func() bool { _, err := shared.Get(ctx, box.ID()); return errors.Is(err, ErrNotFound) }) {
		t.Fatal("it is still there")
	}
}

func TestIdleStop(t *testing.T) {
	box := newBox(t, shared, BoxOptions{IdleStop: time.Second})
	ok(t, box.Start(within(t)))
	info := becomes(t, box, func(i Info) bool { return i.Status == StatusStopped })
	if !strings.Contains(info.Reason, "1 s") {
		t.Fatalf("%+v", info)
	}
}

func TestHealthCheck(t *testing.T) {
	rt := openRuntime(t)
	s := subscribe(t, rt, 0)
	box := newBox(t, rt, BoxOptions{HealthCheck: &HealthCheck{
		Args:     []string{"test", "-e", "/tmp/well"},
		Interval: 100 * time.Millisecond,
		Timeout:  10 * time.Second,
		Retries:  2,
	}})
	if info := inspect(t, box); info.Health != HealthNone || !info.LastCheck.IsZero() {
		t.Fatalf("%+v", info)
	}
	ok(t, box.Start(within(t)))
	info := becomes(t, box, func(i Info) bool { return i.Health == HealthUnhealthy })
	if info.HealthFailures < 2 || time.Since(info.LastCheck).Abs() > time.Hour || info.Health.String() != "unhealthy" {
		t.Fatalf("%+v", info)
	}
	_, err := box.Run(within(t), shell("touch /tmp/well"), 10)
	ok(t, err)
	becomes(t, box, func(i Info) bool { return i.Health == HealthHealthy && i.HealthFailures == 0 })
	expect(t, s, EventBoxCreated)
	expect(t, s, EventBoxStarted)
	if event := expect(t, s, EventUnhealthy); event.BoxID != box.ID() || event.Text == "" {
		t.Fatalf("%+v", event)
	}
	// A check may see the file before its command has ended.
	for kind := EventUnhealthy; kind != EventHealthy; {
		event, err := s.Next(within(t))
		ok(t, err)
		if kind = event.Kind; kind != EventExecStarted && kind != EventExecEnded && kind != EventHealthy {
			t.Fatalf("%+v", event)
		}
	}
}

func TestMainProcess(t *testing.T) {
	ctx := within(t)
	box := newBox(t, shared, BoxOptions{Main: &Main{Args: []string{"sh", "-c", "echo out; echo err >&2; exit 3"}}})
	if _, err := box.AttachMain(ctx, Offsets{}); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := testBox.AttachMain(ctx, Offsets{}); !errors.Is(err, ErrInvalidState) {
		t.Fatal(err)
	}
	ok(t, box.Start(ctx))
	info := becomes(t, box, func(i Info) bool { return i.Status == StatusStopped })
	if info.Main != MainExited || info.MainExit != (ExitStatus{Code: 3}) || info.Main.String() != "exited" {
		t.Fatalf("%+v", info)
	}
	// What it wrote outlasts it.
	exec, err := box.AttachMain(ctx, Offsets{Stdout: 1})
	ok(t, err)
	defer exec.Close()
	stdout, stderr := exec.Stdout(), exec.Stderr()
	if got := readAll(t, stdout) + readAll(t, stderr); got != "ut\nerr\n" {
		t.Fatalf("%q", got)
	}
	if status := wait(t, exec); status.Code != 3 {
		t.Fatal(status)
	}
}

func TestMainProcessOfTheImageMayBeOutlived(t *testing.T) {
	box := newBox(t, shared, BoxOptions{Cmd: []string{"sh", "-c", "kill -TERM $$"}, Entrypoint: []string{}, Main: &Main{Stay: true}})
	ok(t, box.Start(within(t)))
	info := becomes(t, box, func(i Info) bool { return i.Main == MainExited })
	if info.MainExit.Signal != syscall.SIGTERM || info.MainExit.Code != 143 || info.Status != StatusRunning {
		t.Fatalf("%+v", info)
	}
	if info := inspect(t, testBox); info.Main != MainNone || info.MainExit.Code != -1 {
		t.Fatalf("%+v", info)
	}
}

func TestAStartFailsWithItsMainProcess(t *testing.T) {
	box := newBox(t, shared, BoxOptions{Main: &Main{Args: []string{"no-such-command"}}})
	if err := box.Start(within(t)); !errors.Is(err, ErrExecution) {
		t.Fatal(err)
	}
}

func TestBadLivesAreRefused(t *testing.T) {
	for wanted, options := range map[string]BoxOptions{
		"IdleStop":             {IdleStop: -time.Second},
		"HealthCheck.Interval": {HealthCheck: &HealthCheck{Args: []string{"true"}, Interval: -1 * time.Hour}},
		"argv":                 {HealthCheck: &HealthCheck{}},
		"retries":              {HealthCheck: &HealthCheck{Args: []string{"true"}, Retries: 1001}},
		"Main.Args":            {Main: &Main{Args: []string{"a\x00b"}}},
		"spool_bytes":          {SpoolBytes: 1},
	} {
		options.Image = busybox()
		var failure *Error
		_, err := shared.Create(within(t), options)
		if !errors.As(err, &failure) || failure.Code != ErrInvalidArgument || failure.Object != wanted {
			t.Errorf("%s: %+v", wanted, err)
		}
	}
}
