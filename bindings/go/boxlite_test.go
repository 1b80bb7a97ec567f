package boxlite

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// What the tests share: one runtime with one box that runs, in a home of their own.
var (
	home    string
	shared  *Runtime
	testBox *Box
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if home, err = os.MkdirTemp("", "boxlite-go-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(home)
	ctx := context.Background()
	// What a process has only once, such as Go's poller, is made before it is counted.
	first, err := Open(Options{Home: home})
	if err != nil {
		panic(err)
	}
	if err := first.Close(ctx); err != nil {
		panic(err)
	}
	goroutines, fds := runtime.NumGoroutine(), countFDs()
	if shared, err = Open(Options{Home: home}); err != nil {
		panic(err)
	}
	if testBox, err = shared.Create(ctx, BoxOptions{Image: busybox()}); err != nil {
		panic(err)
	}
	if err := testBox.Start(ctx); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := shared.Remove(ctx, testBox.ID(), true); err != nil {
		fmt.Println("remove:", err)
		code = 1
	}
	if err := shared.Close(ctx); err != nil {
		fmt.Println("close:", err)
		code = 1
	}
	if !eventually(func() bool { return runtime.NumGoroutine() <= goroutines && countFDs() <= fds }) {
		fmt.Printf("left: %d goroutines, %d before; %d descriptors, %d before\n",
			runtime.NumGoroutine(), goroutines, countFDs(), fds)
		code = 1
	}
	if !eventually(func() bool { return countMachines(home) == 0 }) {
		fmt.Println("machines are left")
		code = 1
	}
	return code
}

func busybox() string {
	return filepath.Join(os.Getenv("BOXLITE_TEST_IMAGES"), "busybox")
}

// openRuntime opens a runtime in a home of its own, and closes it with the test.
func openRuntime(t *testing.T) *Runtime {
	t.Helper()
	return openWith(t, Options{Home: t.TempDir()})
}

// openWith opens a runtime, and closes it with the test.
func openWith(t *testing.T, options Options) *Runtime {
	t.Helper()
	rt, err := Open(options)
	ok(t, err)
	t.Cleanup(func() { ok(t, rt.Close(context.Background())) })
	return rt
}

// within is a context that only guards against hanging.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func shell(script string) Command {
	return Command{Args: []string{"sh", "-c", script}}
}

// start starts a script in the shared box.
func start(t *testing.T, ctx context.Context, script string) *Exec {
	t.Helper()
	exec, err := testBox.Exec(ctx, shell(script))
	ok(t, err)
	t.Cleanup(func() { exec.Close() })
	return exec
}

// prints runs a script in the shared box and compares what it writes to stdout.
func prints(t *testing.T, script, wanted string) {
	t.Helper()
	out, err := testBox.Run(within(t), shell(script), 1<<20)
	ok(t, err)
	if !out.Status.Success() || string(out.Stdout) != wanted {
		t.Fatalf("%s: %v, stdout %q, stderr %q", script, out.Status, out.Stdout, out.Stderr)
	}
}

// wait waits for the end of a command in the ordinary way.
func wait(t *testing.T, exec *Exec) ExitStatus {
	t.Helper()
	status, err := exec.Wait(within(t))
	ok(t, err)
	return status
}

func eventually(condition func() bool) bool {
	for range 3000 {
		if condition() {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func countFDs() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	return len(entries)
}

// countMachines counts the processes that have a path on their command line.
func countMachines(path string) int {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	count := 0
	for _, line := range lines {
		if text, err := os.ReadFile(line); err == nil && bytes.Contains(text, []byte(path)) {
			count++
		}
	}
	return count
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(r)
	ok(t, err)
	return string(data)
}

func TestVersion(t *testing.T) {
	if parts := strings.Split(Version(), "."); len(parts) != 3 {
		t.Fatal(Version())
	}
}
