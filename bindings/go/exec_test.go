package boxlite

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestHello(t *testing.T) {
	ctx := within(t)
	exec, err := testBox.Exec(ctx, Command{Args: []string{"echo", "hello from a box"}})
	ok(t, err)
	defer exec.Close()
	if got := readAll(t, exec.Stdout()); got != "hello from a box\n" {
		t.Fatalf("%q", got)
	}
	if status := wait(t, exec); !status.Success() || status.String() != "exit status 0" {
		t.Fatal(status)
	}
}

func TestBytesThatAreNoTextArePreserved(t *testing.T) {
	exec := start(t, within(t), `printf '\000\377\376\n\200'; printf '\001\000' >&2`)
	if got := readAll(t, exec.Stdout()); got != "\x00\xff\xfe\n\x80" {
		t.Fatalf("%q", got)
	}
	if got := readAll(t, exec.Stderr()); got != "\x01\x00" {
		t.Fatalf("%q", got)
	}
	wait(t, exec)
}

func TestOptionsReachTheCommand(t *testing.T) {
	out, err := testBox.Run(within(t), Command{
		Args: []string{"sh", "-c", `echo "$A|$B|$(pwd)|$(id -u):$(id -g)"`},
		Env:  []string{"A=one=1", "B="},
		Dir:  "/tmp",
		User: "12:34",
	}, 1024)
	ok(t, err)
	if got := string(out.Stdout); got != "one=1||/tmp|12:34\n" {
		t.Fatalf("%q, stderr %q", got, out.Stderr)
	}
}

func TestExitCodesSignalsAndMissingCommands(t *testing.T) {
	for _, test := range []struct {
		command Command
		code    int
		signal  syscall.Signal
		message string
	}{
		{shell("exit 0"), 0, 0, ""},
		{shell("exit 42"), 42, 0, ""},
		{shell("exit 255"), 255, 0, ""},
		{shell("kill -TERM $$"), 143, syscall.SIGTERM, ""},
		{Command{Args: []string{"no-such-command"}}, 127, 0, "no-such-command"},
		{Command{Args: []string{"/etc/passwd"}}, 126, 0, "/etc/passwd"},
	} {
		exec, err := testBox.Exec(within(t), test.command)
		ok(t, err)
		status := wait(t, exec)
		exec.Close()
		out, err := testBox.Run(within(t), test.command, 1024)
		ok(t, err)
		if out.Status != status {
			t.Errorf("%v: Wait has %+v, Run %+v", test.command.Args, status, out.Status)
		}
		if status.Code != test.code || status.Signal != test.signal ||
			(status.Message == "") != (test.message == "") || !strings.Contains(status.Message, test.message) {
			t.Errorf("%v: %+v", test.command.Args, status)
		}
	}
}

func TestSignal(t *testing.T) {
	exec := start(t, within(t), "trap 'echo caught; exit 7' USR1; echo ready; while :; do sleep 0.1; done")
	stdout := exec.Stdout()
	line := make([]byte, 6)
	if _, err := io.ReadFull(stdout, line); err != nil || string(line) != "ready\n" {
		t.Fatal(string(line), err)
	}
	ok(t, exec.Signal(within(t), syscall.SIGUSR1))
	if got := readAll(t, stdout); got != "caught\n" {
		t.Fatalf("%q", got)
	}
	if status := wait(t, exec); status.Code != 7 {
		t.Fatal(status)
	}
	if err := exec.Signal(within(t), syscall.SIGUSR1); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if err := exec.Signal(within(t), 999); err == nil {
		t.Fatal("signal 999 was sent")
	}
}

func TestManyGoroutinesRunCommands(t *testing.T) {
	var group sync.WaitGroup
	for n := range 24 {
		group.Add(1)
		go func() {
			defer group.Done()
			word := strings.Repeat("x", n)
			exec, err := testBox.Exec(within(t), Command{Args: []string{"sh", "-c", "cat; echo " + word + " >&2; exit " + itoa(n)}, Stdin: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer exec.Close()
			go func() {
				io.WriteString(exec.Stdin(), word)
				exec.Stdin().Close()
			}()
			stdout, stderr := exec.Stdout(), exec.Stderr()
			out, err1 := io.ReadAll(stdout)
			errs, err2 := io.ReadAll(stderr)
			status, err3 := exec.Wait(within(t))
			if err := errors.Join(err1, err2, err3); err != nil {
				t.Error(err)
			}
			if string(out) != word || string(errs) != word+"\n" || status.Code != n {
				t.Errorf("%d: %v, %q, %q", n, status, out, errs)
			}
		}()
	}
	group.Wait()
}

func itoa(n int) string { return string([]byte{byte('0' + n/10), byte('0' + n%10)}) }

func TestRunKeepsOutputUpToTheLimit(t *testing.T) {
	out, err := testBox.Run(within(t), shell("head -c 1000000 /dev/zero; echo short >&2; exit 3"), 1000)
	ok(t, err)
	if len(out.Stdout) != 1000 || out.StdoutDropped != 999000 || string(out.Stderr) != "short\n" ||
		out.StderrDropped != 0 || out.Status.Code != 3 {
		t.Fatalf("%d bytes, %d dropped, %q, %d dropped, %v",
			len(out.Stdout), out.StdoutDropped, out.Stderr, out.StderrDropped, out.Status)
	}
	if _, err := testBox.Run(within(t), shell("true"), -1); !errors.Is(err, ErrInvalidArgument) {
		t.Fatal(err)
	}
}

func TestWaitDropsOutputThatNobodyAskedFor(t *testing.T) {
	exec := start(t, within(t), "head -c 2000000 /dev/zero; head -c 2000000 /dev/zero >&2")
	if status := wait(t, exec); !status.Success() {
		t.Fatal(status)
	}
}

func TestWaitForOutputThatIsReadLater(t *testing.T) {
	exec := start(t, within(t), "echo later")
	stdout := exec.Stdout()
	wait(t, exec)
	if got := readAll(t, stdout); got != "later\n" {
		t.Fatalf("%q", got)
	}
}

func TestContextOfWaitEndsOnlyTheWait(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	exec, err := testBox.Exec(within(t), Command{Args: []string{"sh", "-c", "read line; exit $line"}, Stdin: true})
	ok(t, err)
	defer exec.Close()
	if _, err := exec.Wait(ctx); err != context.DeadlineExceeded {
		t.Fatal(err)
	}
	_, err = io.WriteString(exec.Stdin(), "9\n")
	ok(t, err)
	if status := wait(t, exec); status.Code != 9 {
		t.Fatal(status)
	}
}
