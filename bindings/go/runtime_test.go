package boxlite

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestErrorsSayWhatIsWrong(t *testing.T) {
	ctx := within(t)
	_, err := shared.Create(ctx, BoxOptions{Image: "/no/such/image"})
	var failure *Error
	if !errors.As(err, &failure) || !errors.Is(err, ErrImage) || errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if failure.Message == "" || failure.Object == "" || failure.Retryable {
		t.Fatalf("%+v", failure)
	}
	if _, err := shared.Get(ctx, "no-such-box"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	} else if errors.As(err, &failure); failure.Object != "no-such-box" {
		t.Fatalf("%+v", failure)
	}
	if err := shared.Remove(ctx, "no-such-box", true); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if err := shared.Remove(ctx, testBox.ID(), false); !errors.Is(err, ErrInvalidState) {
		t.Fatal(err)
	}
	if ErrNotFound.Error() != "BOXLITE_NOT_FOUND" {
		t.Fatal(ErrNotFound.Error())
	}
}

func TestAnErrorNumberIsMatched(t *testing.T) {
	err := error(&Error{Code: ErrStorage, Message: "m", Errno: syscall.ENOSPC})
	if !errors.Is(err, ErrStorage) || !errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
}

func TestBadArgumentsAreRefused(t *testing.T) {
	ctx := within(t)
	for name, options := range map[string]BoxOptions{
		"no image":       {},
		"NUL in image":   {Image: busybox() + "\x00tail"},
		"name":           {Image: busybox(), Name: "-"},
		"cpus":           {Image: busybox(), CPUs: 1000},
		"memory":         {Image: busybox(), MemoryMiB: 1},
		"env without =":  {Image: busybox(), Env: []string{"NAME"}},
		"NUL in env":     {Image: busybox(), Env: []string{"A=b\x00c"}},
		"not UTF-8":      {Image: busybox(), User: "\xff"},
		"relative dir":   {Image: busybox(), Dir: "tmp"},
		"negative start": {Image: busybox(), StartTimeout: -time.Second},
		"NUL in cmd":     {Image: busybox(), Cmd: []string{"a\x00b"}},
	} {
		if box, err := shared.Create(ctx, options); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: %v %v", name, box, err)
		}
	}
	if _, err := testBox.Exec(ctx, Command{Args: []string{"echo", "a\x00b"}}); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	if _, err := testBox.Exec(ctx, Command{Args: []string{"true"}, Dir: "/no/such/directory"}); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	if _, err := Open(Options{Accelerator: "abacus"}); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
}

func TestBadOptionsOfARuntimeAreNamed(t *testing.T) {
	for wanted, options := range map[string]Options{
		"TemplateAge":   {TemplateAge: -time.Second},
		"machines":      {Pool: Pool{Machines: 65}},
		"cpus":          {Pool: Pool{CPUs: 65}},
		"memory_mib":    {Pool: Pool{MemoryMiB: 1}},
		"image":         {Pool: Pool{DiskMiB: 64}},
		"Image":         {Pool: Pool{Image: "a\x00b"}},
		"disk_size_mib": {Pool: Pool{Image: busybox(), DiskMiB: 1}},
	} {
		var failure *Error
		options.Home = t.TempDir()
		rt, err := Open(options)
		if !errors.As(err, &failure) || failure.Code != ErrInvalidArgument || failure.Object != wanted {
			t.Errorf("%s: %v %v", wanted, rt, err)
		}
	}
}

// comesUp starts a new box, and compares how it came up.
func comesUp(t *testing.T, rt *Runtime, options BoxOptions, wanted Boot) {
	t.Helper()
	ctx := within(t)
	box, err := rt.Create(ctx, options)
	ok(t, err)
	info, err := box.Inspect(ctx)
	ok(t, err)
	if info.Boot != BootUnknown {
		t.Fatalf("%+v", info)
	}
	ok(t, box.Start(ctx))
	info, err = box.Inspect(ctx)
	ok(t, err)
	if info.Boot != wanted {
		t.Fatalf("%v instead of %v: %+v", info.Boot, wanted, rt.Counters())
	}
	ok(t, rt.Remove(ctx, box.ID(), true))
}

func TestBoxesAreBootedOrRestored(t *testing.T) {
	rt := openWith(t, Options{
		Home: t.TempDir(), TemplateAge: 90 * time.Minute, TemplatesMiB: 1024, NoDiskTemplates: true,
	})
	if counters := rt.Counters(); counters != (Counters{}) || rt.PoolReady() != 0 {
		t.Fatalf("%+v", counters)
	}
	comesUp(t, rt, BoxOptions{Image: busybox(), ColdBoot: true}, BootCold)
	comesUp(t, rt, BoxOptions{Image: busybox()}, BootRestored)
	if counters := rt.Counters(); counters != (Counters{
		ColdStarts: 1, RestoredStarts: 1, TemplatesMade: 1, BoxesCreated: 2, BoxesStopped: 2,
	}) {
		t.Fatalf("%+v", counters)
	}
	ok(t, rt.Close(within(t)))
	if counters := rt.Counters(); counters != (Counters{}) {
		t.Fatalf("%+v", counters)
	}
	if words := BootCold.String() + " " + BootPooled.String() + " " + Boot(9).String(); words != "cold pooled boot 9" {
		t.Fatal(words)
	}
}

func TestMachinesWaitForBoxes(t *testing.T) {
	dir := t.TempDir()
	rt := openWith(t, Options{
		Home: dir,
		Pool: Pool{Machines: 1, MemoryMiB: 256, Image: busybox(), DiskMiB: 64},
	})
	if !eventually(func() bool { return rt.PoolReady() == 1 }) {
		t.Fatalf("no machine waits: %+v", rt.Counters())
	}
	// It is for this image: with its disk mounted.
	made := Counters{TemplatesMade: 1, DiskTemplatesMade: 1}
	if counters := rt.Counters(); counters != made {
		t.Fatalf("%+v", counters)
	}
	comesUp(t, rt, BoxOptions{Image: busybox(), MemoryMiB: 256, DiskMiB: 64}, BootPooled)
	made.PooledStarts, made.BoxesCreated, made.BoxesStopped = 1, 1, 1
	if counters := rt.Counters(); counters != made {
		t.Fatalf("%+v", counters)
	}
	ok(t, rt.Close(within(t)))
	if rt.PoolReady() != 0 {
		t.Fatal("a machine waits in a runtime that was closed")
	}
	if !eventually(func() bool { return countMachines(dir) == 0 }) {
		t.Fatal("a machine is left")
	}
}

func TestTheLifeOfABox(t *testing.T) {
	ctx := within(t)
	rt := openRuntime(t)
	box, err := rt.Create(ctx, BoxOptions{
		Image: busybox(), Name: "first", CPUs: 2, MemoryMiB: 256, DiskMiB: 1024,
		Env: []string{"WHERE=box"}, Dir: "/tmp", Entrypoint: []string{"sh", "-c"}, Cmd: []string{"echo $WHERE $(pwd)"},
		StartTimeout: 2 * time.Minute,
	})
	ok(t, err)
	if box.Name() != "first" || box.ID() == "" {
		t.Fatal(box.Name(), box.ID())
	}
	if _, err := rt.Create(ctx, BoxOptions{Image: busybox(), Name: "first"}); !errors.Is(err, ErrAlreadyExists) {
		t.Fatal(err)
	}
	info, err := box.Inspect(ctx)
	ok(t, err)
	if info.Status != StatusConfigured || info.CPUs != 2 || info.MemoryMiB != 256 || info.DiskMiB != 1024 ||
		info.Name != "first" || info.ID != box.ID() || info.Image != busybox() || info.PID != 0 || info.Accelerator != "" ||
		time.Since(info.CreatedAt).Abs() > time.Hour {
		t.Fatalf("%+v", info)
	}
	ok(t, box.Start(ctx))
	out, err := box.Run(ctx, Command{}, 100)
	ok(t, err)
	if string(out.Stdout) != "box /tmp\n" {
		t.Fatalf("%q %q", out.Stdout, out.Stderr)
	}
	info, err = box.Inspect(ctx)
	ok(t, err)
	if info.Status != StatusRunning || info.Status.String() != "running" || info.PID == 0 ||
		info.Accelerator == "" || len(info.Stages) == 0 || info.Stages[0].Name == "" {
		t.Fatalf("%+v", info)
	}
	_, err = box.Run(ctx, Command{Args: []string{"sh", "-c", "echo kept > /file"}}, 100)
	ok(t, err)
	ok(t, box.Stop(ctx, time.Second))

	again, err := rt.Get(ctx, "first")
	ok(t, err)
	out, err = again.Run(ctx, Command{Args: []string{"cat", "/file"}}, 100)
	ok(t, err)
	if string(out.Stdout) != "kept\n" {
		t.Fatalf("%q", out.Stdout)
	}
	ok(t, rt.Shutdown(ctx, time.Second))
	infos, err := rt.List(ctx)
	ok(t, err)
	if len(infos) != 1 || infos[0].ID != box.ID() || infos[0].Status != StatusStopped {
		t.Fatalf("%+v", infos)
	}
	ok(t, rt.Remove(ctx, "first", false))
	infos, err = rt.List(ctx)
	ok(t, err)
	if len(infos) != 0 {
		t.Fatalf("%+v", infos)
	}
}

func TestRunOfAnImage(t *testing.T) {
	ctx := within(t)
	rt := openRuntime(t)
	out, err := rt.Run(ctx, busybox(), []string{"sh", "-c", "echo out; echo error >&2; exit 4"}, 3)
	ok(t, err)
	if string(out.Stdout) != "out" || out.StdoutDropped != 1 || string(out.Stderr) != "err" || out.Status.Code != 4 {
		t.Fatalf("%+v", out)
	}
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if _, err := rt.Run(short, busybox(), []string{"sleep", "1000"}, 3); err != context.DeadlineExceeded {
		t.Fatal(err)
	}
	infos, err := rt.List(ctx)
	ok(t, err)
	if len(infos) != 0 {
		t.Fatalf("left: %+v", infos)
	}
}

func TestCancelledStart(t *testing.T) {
	rt := openRuntime(t)
	box, err := rt.Create(within(t), BoxOptions{Image: busybox()})
	ok(t, err)
	for _, delay := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(context.Background(), delay)
		if err := box.Start(ctx); err != context.DeadlineExceeded {
			t.Fatal(delay, err)
		}
		cancel()
		info, err := box.Inspect(within(t))
		ok(t, err)
		if info.Status == StatusRunning {
			t.Fatalf("%+v", info)
		}
	}
	// It can be started after all.
	ok(t, box.Start(within(t)))
	out, err := box.Run(within(t), shell("echo alive"), 100)
	ok(t, err)
	if string(out.Stdout) != "alive\n" {
		t.Fatalf("%q", out.Stdout)
	}
}

func TestCancelledExecLeavesNoCommand(t *testing.T) {
	for delay := range 12 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(delay)*500*time.Microsecond)
		exec, err := testBox.Exec(ctx, Command{Args: []string{"sleep", "4321"}})
		if err == nil {
			_, err = exec.Wait(within(t))
			exec.Close()
		}
		cancel()
		if err != context.DeadlineExceeded {
			t.Fatal(err)
		}
	}
	prints(t, "for i in $(seq 100); do ps | grep -q '[s]leep 4321' || break; sleep 0.05; done; ps | grep '[s]leep 4321'; true", "")
}

func TestACancelledContextStartsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := shared.Create(ctx, BoxOptions{Image: busybox()}); err != context.Canceled {
		t.Fatal(err)
	}
	if _, err := testBox.Exec(ctx, shell("true")); err != context.Canceled {
		t.Fatal(err)
	}
}

func TestNothingIsLeftAfterClose(t *testing.T) {
	goroutines, fds := runtime.NumGoroutine(), countFDs()
	for range 3 {
		ctx := within(t)
		dir := t.TempDir()
		rt, err := Open(Options{Home: dir})
		ok(t, err)
		box, err := rt.Create(ctx, BoxOptions{Image: busybox()})
		ok(t, err)
		exec, err := box.Exec(ctx, shell("echo begun; sleep 1000"))
		ok(t, err)
		_, err = exec.Stdout().Read(make([]byte, 100))
		ok(t, err)
		var group sync.WaitGroup
		for name, blocked := range map[string]func() (bool, error){
			"Wait": func() (bool, error) {
				status, err := exec.Wait(ctx)
				return status.Signal == syscall.SIGTERM, err
			},
			"Read": func() (bool, error) {
				n, err := exec.Stdout().Read(make([]byte, 100))
				return n == 0 && err == io.EOF, nil
			},
			"Run": func() (bool, error) {
				output, err := box.Run(ctx, shell("sleep 1000"), 100)
				return output != nil && output.Status.Signal == syscall.SIGTERM, err
			},
		} {
			group.Add(1)
			go func() {
				defer group.Done()
				// What waits sees the orderly end.
				if ended, err := blocked(); !ended {
					t.Errorf("%s: %v", name, err)
				}
			}()
		}
		time.Sleep(100 * time.Millisecond)
		ok(t, rt.Close(ctx))
		group.Wait()
		ok(t, rt.Close(ctx))
		// Everything that came from it is closed, and says so.
		for _, err := range []error{
			box.Start(ctx),
			exec.Signal(ctx, syscall.SIGTERM),
			rt.Shutdown(ctx, 0),
		} {
			if err != ErrClosed {
				t.Fatal(err)
			}
		}
		if _, err := exec.Stdout().Read(make([]byte, 1)); err != ErrClosed {
			t.Fatal(err)
		}
		if _, err := exec.Stdin().Write(make([]byte, 1)); err != ErrClosed {
			t.Fatal(err)
		}
		ok(t, exec.Close())
		ok(t, box.Close())
		if !eventually(func() bool { return countMachines(dir) == 0 }) {
			t.Fatal("a machine is left")
		}
	}
	if !eventually(func() bool { return runtime.NumGoroutine() <= goroutines && countFDs() <= fds }) {
		t.Fatalf("%d goroutines, %d before; %d descriptors, %d before", runtime.NumGoroutine(), goroutines, countFDs(), fds)
	}
}

func TestCloseWithoutPatience(t *testing.T) {
	dir := t.TempDir()
	rt, err := Open(Options{Home: dir})
	ok(t, err)
	box, err := rt.Create(within(t), BoxOptions{Image: busybox()})
	ok(t, err)
	ok(t, box.Start(within(t)))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := rt.Close(ctx); err != context.Canceled {
		t.Fatal(err)
	}
	if !eventually(func() bool { return countMachines(dir) == 0 }) {
		t.Fatal("a machine is left")
	}
}

func TestForgottenThingsAreFreed(t *testing.T) {
	goroutines, fds := runtime.NumGoroutine(), countFDs()
	dir := t.TempDir()
	func() {
		rt, err := Open(Options{Home: dir})
		ok(t, err)
		box, err := rt.Create(context.Background(), BoxOptions{Image: busybox()})
		ok(t, err)
		exec, err := box.Exec(context.Background(), shell("echo begun; sleep 1000"))
		ok(t, err)
		_, err = exec.Stdout().Read(make([]byte, 100))
		ok(t, err)
		_, err = rt.Subscribe(0)
		ok(t, err)
	}()
	freed := eventually(func() bool {
		runtime.GC()
		return runtime.NumGoroutine() <= goroutines && countFDs() <= fds && countMachines(dir) == 0
	})
	if !freed {
		t.Fatalf("%d goroutines, %d before; %d descriptors, %d before; %d machines",
			runtime.NumGoroutine(), goroutines, countFDs(), fds, countMachines(dir))
	}
}

func TestHandlesAreUsedAndClosedByManyGoroutines(t *testing.T) {
	ctx := within(t)
	for range 20 {
		exec, err := testBox.Exec(ctx, Command{Args: []string{"cat"}, Stdin: true})
		ok(t, err)
		var group sync.WaitGroup
		for _, use := range []func(){
			func() { exec.Stdout().Read(make([]byte, 10)) },
			func() { exec.Stderr().Read(make([]byte, 10)) },
			func() { exec.Stdin().Write(make([]byte, 1<<20)) },
			func() { exec.Stdin().Close() },
			func() { exec.Wait(ctx) },
			func() { exec.Signal(ctx, syscall.SIGTERM) },
			func() { exec.Close() },
			func() { exec.Close() },
		} {
			group.Add(1)
			go func() { defer group.Done(); use() }()
		}
		group.Wait()
	}
}
