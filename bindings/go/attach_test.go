package boxlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
)

const spool = 4096

// numbers is what `seq` writes.
func numbers(count int) []byte {
	var all bytes.Buffer
	for n := 1; n <= count; n++ {
		fmt.Fprintln(&all, n)
	}
	return all.Bytes()
}

// follow reads to the end, over gaps, and checks each byte against its place.
func follow(t *testing.T, r io.Reader, all []byte, at uint64) (lost uint64) {
	t.Helper()
	buffer := make([]byte, 1000)
	for {
		n, err := r.Read(buffer)
		if !bytes.Equal(buffer[:n], all[at:at+uint64(n)]) {
			t.Fatalf("other bytes at %d", at)
		}
		at += uint64(n)
		var gap *GapError
		if errors.As(err, &gap) {
			if !errors.Is(err, ErrGap) || gap.Bytes == 0 {
				t.Fatal(err)
			}
			at += gap.Bytes
			lost += gap.Bytes
		} else if err == io.EOF {
			break
		} else {
			ok(t, err)
		}
	}
	if at != uint64(len(all)) {
		t.Fatalf("it ended at %d of %d", at, len(all))
	}
	return lost
}

func TestDetachedBoxAndCommandOutliveTheirRuntime(t *testing.T) {
	ctx := within(t)
	home := t.TempDir()
	all := numbers(20000)
	first := openWith(t, Options{Home: home})
	box, err := first.Create(ctx, BoxOptions{Image: busybox(), Detach: true, SpoolBytes: spool})
	ok(t, err)
	// A detached command is not killed with the context of its start.
	starting, cancel := context.WithCancel(ctx)
	exec, err := box.Exec(starting, Command{
		Args:   []string{"sh", "-c", "seq 20000; echo done >&2; exec sleep 1000"},
		Detach: true,
	})
	ok(t, err)
	cancel()
	id := exec.ID()
	if id == 0 {
		t.Fatal("it has no id")
	}
	ok(t, first.Close(ctx))
	if exec.ID() != 0 || exec.Offsets() != (Offsets{}) || exec.Lost() != (Offsets{}) {
		t.Fatal("a closed exec tells something")
	}

	second := openWith(t, Options{Home: home})
	box, err = second.Get(ctx, box.ID())
	ok(t, err)
	t.Cleanup(func() { ok(t, second.Remove(within(t), box.ID(), true)) })
	if info := inspect(t, box); info.Status != StatusRunning || !info.Detach {
		t.Fatalf("%+v", info)
	}
	var listed ExecInfo
	if !eventually(func() bool {
		list, err := box.ListExecs(ctx)
		ok(t, err)
		if len(list) != 1 {
			t.Fatalf("%+v", list)
		}
		listed = list[0]
		return listed.Total == Offsets{uint64(len(all)), 5}
	}) {
		t.Fatalf("%+v", listed)
	}
	if listed.ID != id || !listed.Detached || listed.Main || !listed.Running || listed.Status.Code != -1 ||
		len(listed.Args) != 3 || listed.Args[0] != "sh" || listed.StartedAt.IsZero() ||
		listed.First != (Offsets{uint64(len(all) - spool), 0}) {
		t.Fatalf("%+v", listed)
	}

	held := uint64(len(all) - spool)
	for _, from := range []uint64{0, 5, held, held + 7} {
		exec, err := box.Attach(ctx, id, Offsets{Stdout: from, Stderr: 2})
		ok(t, err)
		if exec.ID() != id || exec.Offsets() != (Offsets{from, 2}) {
			t.Fatal(exec.ID(), exec.Offsets())
		}
		stdout, gone, at := exec.Stdout(), max(held, from)-from, from
		buffer := make([]byte, 100)
		if gone > 0 {
			var gap *GapError
			if n, err := stdout.Read(buffer); n != 0 || !errors.As(err, &gap) || gap.Bytes != gone {
				t.Fatal(n, err)
			}
			at += gone
		}
		n, err := io.ReadFull(stdout, buffer)
		ok(t, err)
		if !bytes.Equal(buffer, all[at:at+100]) {
			t.Fatalf("%q", buffer)
		}
		if exec.Offsets() != (Offsets{at + uint64(n), 2}) || exec.Lost() != (Offsets{gone, 0}) {
			t.Fatal(exec.Offsets(), exec.Lost())
		}
		exec.Close()
	}
	if _, err := box.Attach(ctx, id, Offsets{Stdout: uint64(len(all)) + 1}); !errors.Is(err, ErrInvalidArgument) {
		t.Fatal(err)
	}
	if _, err := box.Attach(ctx, id+100, Offsets{}); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}

	// Who follows may signal it, and sees its end.
	exec, err = box.Attach(ctx, id, Offsets{})
	ok(t, err)
	defer exec.Close()
	stdout, stderr := exec.Stdout(), exec.Stderr()
	ok(t, exec.Signal(ctx, syscall.SIGKILL))
	if got := readAll(t, stderr); got != "done\n" {
		t.Fatalf("%q", got)
	}
	if lost := follow(t, stdout, all, 0); lost != held {
		t.Fatal(lost)
	}
	if status := wait(t, exec); status.Signal != syscall.SIGKILL {
		t.Fatal(status)
	}
	list, err := box.ListExecs(ctx)
	ok(t, err)
	if len(list) != 1 || list[0].Running || list[0].Status != (ExitStatus{Code: 137, Signal: syscall.SIGKILL}) {
		t.Fatalf("%+v", list)
	}
}

func TestASlowReaderOfADetachedCommandFindsGaps(t *testing.T) {
	ctx := within(t)
	all := numbers(300000)
	box := newBox(t, shared, BoxOptions{SpoolBytes: spool})
	exec, err := box.Exec(ctx, Command{Args: []string{"sh", "-c", "seq 300000; exit 3"}, Detach: true})
	ok(t, err)
	defer exec.Close()
	// It ends although nobody reads.
	if !eventually(func() bool {
		list, err := box.ListExecs(ctx)
		ok(t, err)
		return len(list) == 1 && !list[0].Running
	}) {
		t.Fatal("it waits for its reader")
	}
	lost := follow(t, exec.Stdout(), all, 0)
	if lost == 0 || exec.Lost() != (Offsets{lost, 0}) || exec.Offsets() != (Offsets{uint64(len(all)), 0}) {
		t.Fatal(lost, exec.Lost(), exec.Offsets())
	}
	if status := wait(t, exec); status.Code != 3 {
		t.Fatal(status)
	}
}

func TestACommandThatIsNotDetachedIsListedAndNotFollowed(t *testing.T) {
	ctx := within(t)
	box := newBox(t, shared, BoxOptions{})
	exec, err := box.Exec(ctx, Command{Args: []string{"sleep", "1000"}})
	ok(t, err)
	defer exec.Close()
	list, err := box.ListExecs(ctx)
	ok(t, err)
	if len(list) != 1 || list[0].Detached || list[0].ID != exec.ID() || list[0].Total != (Offsets{}) {
		t.Fatalf("%+v", list)
	}
	if _, err := box.Attach(ctx, exec.ID(), Offsets{}); !errors.Is(err, ErrInvalidState) {
		t.Fatal(err)
	}
}
