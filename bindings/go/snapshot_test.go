package boxlite

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// makes makes a snapshot.
func makes(t *testing.T, box *Box, name string) *Snapshot {
	t.Helper()
	snapshot, err := box.CreateSnapshot(within(t), name)
	ok(t, err)
	return snapshot
}

// has compares the names of a box's snapshots.
func has(t *testing.T, box *Box, wanted ...string) []Snapshot {
	t.Helper()
	snapshots, err := box.ListSnapshots(within(t))
	ok(t, err)
	var names []string
	for _, snapshot := range snapshots {
		names = append(names, snapshot.Name)
	}
	if !slices.Equal(names, wanted) {
		t.Fatalf("the snapshots are %q, not %q", names, wanted)
	}
	return snapshots
}

// says runs a script in a box, which is started first if it does not run, and compares its output.
func says(t *testing.T, box *Box, script, wanted string) {
	t.Helper()
	out, err := box.Run(within(t), shell(script), 1<<16)
	ok(t, err)
	if !out.Status.Success() || string(out.Stdout) != wanted {
		t.Fatalf("%s: %v, stdout %q, stderr %q", script, out.Status, out.Stdout, out.Stderr)
	}
}

// goesBack stops a box and restores a snapshot of it.
func goesBack(t *testing.T, box *Box, name string) {
	t.Helper()
	ok(t, box.Stop(within(t), time.Second))
	ok(t, box.RestoreSnapshot(within(t), name))
}

// fails compares the code of an error, and looks for a text in its message.
func fails(t *testing.T, err error, code Code, text string) {
	t.Helper()
	var failure *Error
	if !errors.As(err, &failure) || !errors.Is(err, code) || !strings.Contains(failure.Message, text) {
		t.Errorf("%v instead of %v with %q", err, code, text)
	}
}

func TestSnapshotsOfAStoppedBox(t *testing.T) {
	ctx := within(t)
	box := newBox(t, shared, BoxOptions{DiskMiB: 64})
	has(t, box)
	empty := makes(t, box, "empty")
	if empty.Parent != "" || empty.BoxID != box.ID() || empty.Name != "empty" || empty.VirtualBytes != 64<<20 ||
		time.Since(empty.CreatedAt).Abs() > time.Hour || empty.CreatedAt.Location() != time.UTC {
		t.Fatalf("%+v", empty)
	}

	says(t, box, "dd if=/dev/urandom of=/data bs=1M count=2 2>/dev/null; echo one > /file", "")
	ok(t, box.Stop(ctx, time.Second))
	one := makes(t, box, "one")
	if one.Parent != "empty" || len(one.ID) != 26 || one.ID == empty.ID ||
		one.AllocatedBytes < 2<<20 || one.AllocatedBytes > 64<<20 || empty.AllocatedBytes > 2<<20 {
		t.Fatalf("%+v, after %+v", one, empty)
	}
	says(t, box, "cat /file; echo two > /file", "one\n")
	ok(t, box.Stop(ctx, time.Second))
	makes(t, box, "two")
	snapshots := has(t, box, "empty", "one", "two")
	if snapshots[0] != *empty || snapshots[1] != *one || snapshots[2].Parent != "one" {
		t.Fatalf("%+v", snapshots)
	}
	found, err := box.GetSnapshot(ctx, "one")
	ok(t, err)
	if *found != *one {
		t.Fatalf("%+v instead of %+v", found, one)
	}
	if none, err := box.GetSnapshot(ctx, "three"); none != nil || err != nil {
		t.Fatal(none, err)
	}

	// There and back, as often as one likes.
	goesBack(t, box, "one")
	says(t, box, "cat /file; echo lost > /file", "one\n")
	goesBack(t, box, "two")
	says(t, box, "cat /file", "two\n")
	goesBack(t, box, "empty")
	says(t, box, "ls /file 2>&1 || true", "ls: /file: No such file or directory\n")
	has(t, box, "empty", "one", "two")

	ok(t, box.Stop(ctx, time.Second))
	fails(t, box.RemoveSnapshot(ctx, "empty"), ErrInvalidState, "snapshots/one/disk.qcow2")
	ok(t, box.RemoveSnapshot(ctx, "one"))
	goesBack(t, box, "two")
	says(t, box, "cat /file", "two\n")
	goesBack(t, box, "empty")
	ok(t, box.RemoveSnapshot(ctx, "two"))
	has(t, box, "empty")
	says(t, box, "echo up", "up\n")
}

func TestSnapshotsOfARunningBox(t *testing.T) {
	ctx := within(t)
	box := newBox(t, shared, BoxOptions{})
	exec, err := box.Exec(ctx, Command{Args: []string{"sh", "-c", "echo written > /file; read line; echo $line"}, Stdin: true})
	ok(t, err)
	defer exec.Close()
	stdout := exec.Stdout()
	says(t, box, "until grep -qs written /file; do usleep 10000; done", "")
	makes(t, box, "first")
	says(t, box, "echo more > /more; sync", "")
	if second := makes(t, box, "second"); second.Parent != "first" || second.AllocatedBytes == 0 {
		t.Fatalf("%+v", second)
	}
	says(t, box, "rm /file; sync; cat /more", "more\n")

	// Its processes have gone on, and a machine has no use for another disk.
	_, err = exec.Stdin().Write([]byte("here\n"))
	ok(t, err)
	if got := readAll(t, stdout); got != "here\n" {
		t.Fatalf("%q", got)
	}
	fails(t, box.RestoreSnapshot(ctx, "first"), ErrInvalidState, "stop it first")

	goesBack(t, box, "second")
	says(t, box, "cat /file /more", "written\nmore\n")
	goesBack(t, box, "first")
	says(t, box, "cat /file; ls /more 2>/dev/null || echo none", "written\nnone\n")
	// Also while it runs.
	ok(t, box.RemoveSnapshot(ctx, "second"))
	has(t, box, "first")
	says(t, box, "cat /file", "written\n")
}

func TestABoxThatIsPausedHasNoSnapshotMade(t *testing.T) {
	ctx := within(t)
	box := newBox(t, shared, BoxOptions{})
	ok(t, box.Start(ctx))
	ok(t, box.Pause(ctx))
	snapshot, err := box.CreateSnapshot(ctx, "paused")
	fails(t, err, ErrInvalidState, "resume it first")
	if snapshot != nil {
		t.Fatalf("%+v", snapshot)
	}
	has(t, box)
	ok(t, box.Resume(ctx))
	makes(t, box, "resumed")
	has(t, box, "resumed")
}

func TestSnapshotsThatAreRefused(t *testing.T) {
	ctx := within(t)
	box := newBox(t, shared, BoxOptions{})
	calls := map[string]func(context.Context, string) error{
		"create":  func(ctx context.Context, name string) error { _, err := box.CreateSnapshot(ctx, name); return err },
		"get":     func(ctx context.Context, name string) error { _, err := box.GetSnapshot(ctx, name); return err },
		"restore": box.RestoreSnapshot,
		"remove":  box.RemoveSnapshot,
	}
	for name, use := range calls {
		for _, bad := range []string{"", "..", ".hidden", "a/b", `a\b`, "a\x00b", "\xff", strings.Repeat("n", 256)} {
			if err := use(ctx, bad); !errors.Is(err, ErrInvalidArgument) {
				t.Errorf("%s %q: %v", name, bad, err)
			}
		}
	}
	for _, good := range []string{"a b", "säge", strings.Repeat("n", 255)} {
		makes(t, box, good)
		if found, err := box.GetSnapshot(ctx, good); err != nil || found == nil || found.Name != good {
			t.Errorf("%q: %+v %v", good, found, err)
		}
	}
	fails(t, calls["create"](ctx, "säge"), ErrAlreadyExists, "'säge' already")
	fails(t, calls["restore"](ctx, "none"), ErrNotFound, "no snapshot 'none'")
	fails(t, calls["remove"](ctx, "none"), ErrNotFound, "no snapshot 'none'")

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	for name, use := range calls {
		if err := use(cancelled, "cancelled"); err != context.Canceled {
			t.Errorf("%s: %v", name, err)
		}
	}
	has(t, box, "a b", "säge", strings.Repeat("n", 255))

	// Of a box that is gone there is none, and of one that was closed there is nothing to tell.
	ok(t, shared.Remove(ctx, box.ID(), true))
	fails(t, calls["create"](ctx, "late"), ErrNotFound, "")
	ok(t, box.Close())
	for name, use := range calls {
		if err := use(ctx, "late"); err != ErrClosed {
			t.Errorf("%s: %v", name, err)
		}
	}
	if snapshots, err := box.ListSnapshots(ctx); err != ErrClosed || snapshots != nil {
		t.Error(snapshots, err)
	}
}
