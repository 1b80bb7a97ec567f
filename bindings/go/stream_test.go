package boxlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLargeStreamIsCompleteWithASlowReader(t *testing.T) {
	const size = 32 << 20
	out, err := testBox.Run(within(t), shell("head -c 33554432 /dev/urandom > /tmp/large && sha256sum < /tmp/large"), 1024)
	ok(t, err)
	wanted, _, _ := strings.Cut(string(out.Stdout), " ")

	exec := start(t, within(t), "cat /tmp/large; rm /tmp/large")
	stdout := exec.Stdout()
	sum := sha256.New()
	buffer := make([]byte, 100_000)
	total, pauses := 0, 0
	for {
		n, err := stdout.Read(buffer)
		sum.Write(buffer[:n])
		total += n
		if err == io.EOF {
			break
		}
		ok(t, err)
		if total/(1<<20) > pauses {
			pauses++
			time.Sleep(20 * time.Millisecond)
		}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); total != size || got != wanted {
		t.Fatalf("%d bytes with sum %s, not %s", total, got, wanted)
	}
	if status := wait(t, exec); !status.Success() {
		t.Fatal(status)
	}
}

func TestUnreadOutputHoldsUpNothingElse(t *testing.T) {
	unread := start(t, within(t), "head -c 4000000 /dev/zero; echo finished > /tmp/unread")
	stdout := unread.Stdout()
	one := make([]byte, 1)
	_, err := io.ReadFull(stdout, one)
	ok(t, err)
	for range 10 {
		prints(t, "sleep 0.1; echo on", "on\n")
	}
	// The command waits on its pipe ...
	prints(t, "[ -e /tmp/unread ] || echo waiting", "waiting\n")
	// ... until somebody reads.
	n, err := io.Copy(io.Discard, stdout)
	ok(t, err)
	if n != 3_999_999 {
		t.Fatal(n)
	}
	wait(t, unread)
	prints(t, "cat /tmp/unread", "finished\n")
}

func TestClosedOutputIsDropped(t *testing.T) {
	exec := start(t, within(t), "head -c 4000000 /dev/zero; echo done >&2")
	stdout, stderr := exec.Stdout(), exec.Stderr()
	ok(t, stdout.Close())
	ok(t, stdout.Close())
	if got := readAll(t, stderr); got != "done\n" {
		t.Fatalf("%q", got)
	}
	if _, err := stdout.Read(make([]byte, 1)); err != ErrClosed {
		t.Fatal(err)
	}
	wait(t, exec)
}

func TestCloseWakesAReadAndAWrite(t *testing.T) {
	exec, err := testBox.Exec(within(t), Command{Args: []string{"sleep", "1000"}, Stdin: true})
	ok(t, err)
	defer exec.Close()
	results := make(chan error, 3)
	go func() {
		_, err := exec.Stdout().Read(make([]byte, 1))
		results <- err
	}()
	go func() {
		_, err := exec.Stderr().Read(make([]byte, 1))
		results <- err
	}()
	go func() {
		_, err := exec.Stdin().Write(make([]byte, 4<<20))
		results <- err
	}()
	time.Sleep(200 * time.Millisecond)
	ok(t, exec.Stdout().Close())
	ok(t, exec.Stdin().Close())
	for range 2 {
		if err := <-results; err != ErrClosed {
			t.Fatal(err)
		}
	}
	ok(t, exec.Signal(within(t), syscall.SIGKILL))
	if err := <-results; err != io.EOF {
		t.Fatal(err)
	}
	if status := wait(t, exec); status.Signal != syscall.SIGKILL {
		t.Fatal(status)
	}
}

func TestStdinRoundTripThroughCat(t *testing.T) {
	data := make([]byte, 8<<20)
	rand.New(rand.NewSource(1)).Read(data)
	exec, err := testBox.Exec(within(t), Command{Args: []string{"cat"}, Stdin: true})
	ok(t, err)
	defer exec.Close()
	written := make(chan error, 1)
	go func() {
		_, err := exec.Stdin().Write(data)
		written <- errors.Join(err, exec.Stdin().Close())
	}()
	got, err := io.ReadAll(exec.Stdout())
	ok(t, err)
	ok(t, <-written)
	if !bytes.Equal(got, data) {
		t.Fatalf("%d bytes came back, and not those that were written", len(got))
	}
	if status := wait(t, exec); !status.Success() {
		t.Fatal(status)
	}
	if _, err := exec.Stdin().Write([]byte("x")); err == nil {
		t.Fatal("a write to a closed stdin succeeded")
	}
}

func TestBytesGoBackAndForth(t *testing.T) {
	exec, err := testBox.Exec(within(t), Command{Args: []string{"cat"}, Stdin: true})
	ok(t, err)
	defer exec.Close()
	stdin, stdout := exec.Stdin(), exec.Stdout()
	got := make([]byte, 1)
	for n := range 500 {
		_, err := stdin.Write([]byte{byte(n)})
		ok(t, err)
		_, err = io.ReadFull(stdout, got)
		ok(t, err)
		if got[0] != byte(n) {
			t.Fatalf("%d came back for %d", got[0], byte(n))
		}
	}
	ok(t, stdin.Close())
	wait(t, exec)
}

func TestWriteToACommandThatHasEnded(t *testing.T) {
	exec, err := testBox.Exec(within(t), Command{Args: []string{"true"}, Stdin: true})
	ok(t, err)
	defer exec.Close()
	wait(t, exec)
	if _, err := exec.Stdin().Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
}

func TestReaderGetsTheErrorThatEndedTheBox(t *testing.T) {
	ctx := within(t)
	box, err := shared.Create(ctx, BoxOptions{Image: busybox()})
	ok(t, err)
	defer box.Close()
	for _, end := range []struct {
		code Code
		by   func(Info) error
	}{
		{ErrStopped, func(Info) error {
			_, err := box.Exec(ctx, shell("reboot -f"))
			return err
		}},
		{ErrEngine, func(info Info) error { return killMachine(home, info.ID) }},
	} {
		exec, err := box.Exec(ctx, shell("while :; do echo line; sleep 0.01; done"))
		ok(t, err)
		stdout := exec.Stdout()
		_, err = io.ReadFull(stdout, make([]byte, 50))
		ok(t, err)
		info, err := box.Inspect(ctx)
		ok(t, err)
		ok(t, end.by(info))
		if _, err = io.Copy(io.Discard, stdout); !errors.Is(err, end.code) {
			t.Fatalf("the reader got %v, not %v", err, end.code)
		}
		if _, err := exec.Wait(ctx); !errors.Is(err, end.code) {
			t.Fatalf("Wait returned %v, not %v", err, end.code)
		}
		ok(t, exec.Close())
	}
	ok(t, shared.Remove(ctx, box.ID(), true))
	if err := box.Start(ctx); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
}

// killMachine ends the machine of a box as a fault would.
func killMachine(home, id string) error { return signalMachine(home, id, syscall.SIGKILL) }

func signalMachine(home, id string, signal syscall.Signal) error {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		text, _ := os.ReadFile(line)
		if bytes.Contains(text, []byte("qemu")) && bytes.Contains(text, []byte(home)) && bytes.Contains(text, []byte(id)) {
			pid, _ := strconv.Atoi(strings.Split(line, "/")[2])
			return syscall.Kill(pid, signal)
		}
	}
	return errors.New("there is no machine of box " + id)
}

func TestABoxRemovedByForceIsNoOrdinaryEnd(t *testing.T) {
	ctx := within(t)
	box, err := shared.Create(ctx, BoxOptions{Image: busybox()})
	ok(t, err)
	defer box.Close()
	exec, err := box.Exec(ctx, shell("while :; do echo line; sleep 0.01; done"))
	ok(t, err)
	defer exec.Close()
	stdout := exec.Stdout()
	_, err = io.ReadFull(stdout, make([]byte, 50))
	ok(t, err)
	removed := make(chan error, 1)
	go func() { removed <- shared.Remove(ctx, box.ID(), true) }()
	_, readErr := io.Copy(io.Discard, stdout)
	ok(t, <-removed)
	// The command was killed by the guest, or died with the machine: the exit tells which.
	status, err := exec.Wait(ctx)
	t.Log(status, err, readErr)
	if err == nil && status.Signal == 0 {
		t.Fatalf("%+v", status)
	}
	if (err == nil) != (readErr == nil) {
		t.Fatalf("Wait returned %v, the reader got %v", err, readErr)
	}
}

func TestCancelKillsTheCommand(t *testing.T) {
	for _, script := range []string{"echo started; sleep 1000", "echo started; yes"} {
		ctx, cancel := context.WithCancel(context.Background())
		exec := start(t, ctx, "echo $$ > /tmp/cancel; "+script)
		stdout := exec.Stdout()
		_, err := io.ReadFull(stdout, make([]byte, 8))
		ok(t, err)
		prints(t, "kill -0 $(cat /tmp/cancel) && echo runs", "runs\n")
		began := time.Now()
		cancel()
		if _, err := exec.Wait(within(t)); err != context.Canceled {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Fatal(took)
		}
		prints(t, "while kill -0 $(cat /tmp/cancel) 2>/dev/null; do sleep 0.01; done; echo gone", "gone\n")
		// What it wrote before can still be read, and has an end.
		_, err = io.Copy(io.Discard, stdout)
		ok(t, err)
		if _, err := exec.Wait(within(t)); err != context.Canceled {
			t.Fatal(err)
		}
	}
}

func TestDeadlineKillsARun(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := testBox.Run(ctx, shell("echo $$ > /tmp/deadline; sleep 1000"), 1024)
	if err != context.DeadlineExceeded {
		t.Fatal(err)
	}
	prints(t, "while kill -0 $(cat /tmp/deadline) 2>/dev/null; do sleep 0.01; done; echo gone", "gone\n")
}

func TestCancelAfterTheEndChangesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	exec := start(t, ctx, "exit 5")
	if status := wait(t, exec); status.Code != 5 {
		t.Fatal(status)
	}
	cancel()
	if status := wait(t, exec); status.Code != 5 {
		t.Fatal(status)
	}
}
