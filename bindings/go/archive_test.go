package boxlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// exports writes an archive, and compares its path.
func exports(t *testing.T, box *Box, path string, options ExportOptions, wanted string) {
	t.Helper()
	written, err := box.Export(within(t), path, options)
	ok(t, err)
	if info, err := os.Stat(wanted); err != nil || !info.Mode().IsRegular() || written != wanted {
		t.Fatalf("%q instead of %q: %v", written, wanted, err)
	}
}

// imports makes a box of an archive that goes with the test, and compares its name.
func imports(t *testing.T, rt *Runtime, path string, options ImportOptions, name string) *Box {
	t.Helper()
	box, err := rt.Import(within(t), path, options)
	ok(t, err)
	if goes(t, box).Name() != name {
		t.Fatalf("it is called %q, not %q", box.Name(), name)
	}
	return box
}

// paths returns what is in a directory, also one that is being changed.
func paths(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	ok(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		found = append(found, path)
		return err
	}))
	return found
}

// fill has a box's disk have so many bytes that cannot be made smaller, without starting it.
func fill(t *testing.T, home string, box *Box, bytes string) {
	t.Helper()
	random := filepath.Join(t.TempDir(), "random")
	disk := filepath.Join(home, "boxes", box.ID(), "disks", "disk.qcow2")
	script := `head -c "$1" /dev/urandom > "$2" && qemu-io -c "write -q -s $2 1G $1" "$3"`
	if output, err := exec.Command("sh", "-c", script, "sh", bytes, random, disk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
}

// A course is what was told of one operation.
type course struct {
	t    *testing.T
	all  []Progress
	also func()
}

func (c *course) tell(progress Progress) {
	if len(c.all) > 0 && progress.BytesDone < c.all[len(c.all)-1].BytesDone ||
		progress.BytesDone > progress.BytesTotal || progress.BytesTotal == 0 {
		c.t.Errorf("%+v after %+v", progress, c.all)
	}
	c.all = append(c.all, progress)
	if c.also != nil {
		c.also()
	}
}

// ended sees that all was told, of at least so many bytes.
func (c *course) ended(least uint64) {
	c.t.Helper()
	if len(c.all) == 0 || c.all[len(c.all)-1].BytesDone != c.all[0].BytesTotal || c.all[0].BytesTotal < least {
		c.t.Fatalf("%+v", c.all)
	}
}

func TestAnArchiveBecomesABoxElsewhere(t *testing.T) {
	ctx := within(t)
	place := t.TempDir()
	source := newBox(t, openRuntime(t), BoxOptions{
		Name: "source", MemoryMiB: 300, DiskMiB: 200, Env: []string{"COLOUR=blue"}, Labels: map[string]string{"kind": "kept"},
	})
	says(t, source, "head -c 3000000 /dev/urandom > /random; ln -s random /link; sha256sum /random > /sum; sync", "")
	ok(t, source.Stop(ctx, time.Second))
	archive := filepath.Join(place, "source.boxlite")
	exports(t, source, place, ExportOptions{}, archive)
	deep := filepath.Join(place, "a", "b", "c")
	exports(t, source, deep, ExportOptions{}, deep)

	rt := openRuntime(t)
	box := imports(t, rt, archive, ImportOptions{}, "source")
	info := inspect(t, box)
	if box.ID() == source.ID() || info.MemoryMiB != 300 || info.DiskMiB != 200 || info.Labels["kind"] != "kept" ||
		info.Image != "busybox" || info.Status != StatusConfigured {
		t.Fatalf("%+v", info)
	}
	says(t, box, "sha256sum -c /sum && readlink /link && echo $COLOUR", "/random: OK\nrandom\nblue\n")

	// Its name is taken now; others can have another, or none.
	imports(t, rt, deep, ImportOptions{Name: "other", Trusted: true}, "other")
	nameless := imports(t, rt, deep, ImportOptions{NoName: true}, "")
	exports(t, nameless, place, ExportOptions{}, filepath.Join(place, "box.boxlite"))
	lists(t, rt, ListFilter{}, "", "other", "source")
}

func TestAnArchiveHasSnapshots(t *testing.T) {
	ctx := within(t)
	place := t.TempDir()
	source := newBox(t, shared, BoxOptions{DiskMiB: 64})
	says(t, source, "echo one > /file; sync", "")
	makes(t, source, "one")
	says(t, source, "echo two > /file; sync", "")
	ok(t, source.Stop(ctx, time.Second))
	makes(t, source, "säge")
	says(t, source, "echo now > /file; sync", "")

	// While it runs, too.
	one, all := filepath.Join(place, "one"), filepath.Join(place, "all")
	exports(t, source, one, ExportOptions{Snapshot: "one"}, one)
	exports(t, source, all, ExportOptions{WithSnapshots: true}, all)

	box := imports(t, shared, one, ImportOptions{}, "")
	has(t, box)
	says(t, box, "cat /file", "one\n")
	box = imports(t, shared, all, ImportOptions{Name: "all"}, "all")
	snapshots := has(t, box, "one", "säge")
	if snapshots[0].Parent != "" || snapshots[1].Parent != "one" || snapshots[1].BoxID != box.ID() {
		t.Fatalf("%+v", snapshots)
	}
	says(t, box, "cat /file", "now\n")
	goesBack(t, box, "one")
	says(t, box, "cat /file", "one\n")
	goesBack(t, box, "säge")
	says(t, box, "cat /file", "two\n")
}

func TestArchivesAreFollowedAndCancelled(t *testing.T) {
	const bytes = 100_000_000
	place, dir := t.TempDir(), t.TempDir()
	rt := openWith(t, Options{Home: dir})
	box := newBox(t, rt, BoxOptions{Name: "large"})
	fill(t, dir, box, "100000000")
	archive, none := filepath.Join(place, "large"), filepath.Join(place, "none")
	c := course{t: t}
	exports(t, box, archive, ExportOptions{Progress: c.tell}, archive)
	c.ended(bytes)
	c = course{t: t}
	made, err := rt.Import(within(t), archive, ImportOptions{NoName: true, Progress: c.tell})
	ok(t, err)
	c.ended(bytes)
	ok(t, made.Close())
	ok(t, rt.Remove(within(t), made.ID(), false))

	before := paths(t, dir)
	for name, run := range map[string]func(context.Context, func(Progress)) error{
		"export": func(ctx context.Context, tell func(Progress)) error {
			_, err := box.Export(ctx, none, ExportOptions{Progress: tell})
			return err
		},
		"import": func(ctx context.Context, tell func(Progress)) error {
			_, err := rt.Import(ctx, archive, ImportOptions{NoName: true, Progress: tell})
			return err
		},
	} {
		nothingIsLeft := func() bool {
			_, err := os.Stat(none)
			return errors.Is(err, fs.ErrNotExist) && slices.Equal(paths(t, dir), before)
		}
		ctx, cancel := context.WithCancel(within(t))
		c := course{t: t, also: cancel}
		if err := run(ctx, c.tell); err != context.Canceled || len(c.all) != 1 || !nothingIsLeft() {
			t.Error(name, "cancelled in the middle:", err, c.all, paths(t, dir))
		}
		c = course{t: t}
		if err := run(ctx, c.tell); err != context.Canceled || len(c.all) != 0 || !nothingIsLeft() {
			t.Error(name, "cancelled before:", err, c.all, paths(t, dir))
		}
		// A function that panics cancels it too.
		func() {
			defer func() {
				if why := recover(); why != "told" || !eventually(nothingIsLeft) {
					t.Error(name, "panicked:", why, paths(t, dir))
				}
			}()
			t.Error(run(within(t), func(Progress) { panic("told") }))
		}()
	}
	lists(t, rt, ListFilter{}, "large")
	if left := paths(t, place); !slices.Equal(left, []string{place, archive}) {
		t.Fatal(left)
	}
}

func TestArchivesThatAreRefused(t *testing.T) {
	ctx := within(t)
	place := t.TempDir()
	rt := openRuntime(t)
	box := newBox(t, rt, BoxOptions{Name: "box", DiskMiB: 64})
	archive := filepath.Join(place, "box.boxlite")
	exports(t, box, place, ExportOptions{}, archive)
	whole, err := os.ReadFile(archive)
	ok(t, err)
	half, none := filepath.Join(place, "half"), filepath.Join(place, "none")
	ok(t, os.WriteFile(half, whole[:len(whole)/2], 0o600))

	for name, refused := range map[string]struct {
		path    string
		options ExportOptions
		code    Code
		text    string
	}{
		"there is one":     {place, ExportOptions{}, ErrAlreadyExists, "box.boxlite exists already"},
		"no path":          {"", ExportOptions{}, ErrInvalidArgument, "path"},
		"NUL in the path":  {none + "\x00", ExportOptions{}, ErrInvalidArgument, "path"},
		"no such place":    {"/proc/none/x", ExportOptions{}, ErrStorage, "/proc/none"},
		"no snapshot":      {none, ExportOptions{Snapshot: "none"}, ErrNotFound, "no snapshot 'none'"},
		"no such name":     {none, ExportOptions{Snapshot: "a/b"}, ErrInvalidArgument, "a/b"},
		"NUL in a name":    {none, ExportOptions{Snapshot: "a\x00b"}, ErrInvalidArgument, "Snapshot"},
		"one and all ones": {none, ExportOptions{Snapshot: "one", WithSnapshots: true}, ErrInvalidArgument, "with_snapshots"},
	} {
		written, err := box.Export(ctx, refused.path, refused.options)
		fails(t, err, refused.code, refused.text)
		if written != "" || t.Failed() {
			t.Fatal(name, written)
		}
	}
	for name, refused := range map[string]struct {
		path    string
		options ImportOptions
		code    Code
		text    string
	}{
		"name in use":     {archive, ImportOptions{}, ErrAlreadyExists, "box"},
		"other in use":    {archive, ImportOptions{Name: "box"}, ErrAlreadyExists, "box"},
		"no such name":    {archive, ImportOptions{Name: "a b"}, ErrInvalidArgument, "a b"},
		"NUL in the name": {archive, ImportOptions{Name: "a\x00b"}, ErrInvalidArgument, "Name"},
		"a name and none": {archive, ImportOptions{Name: "a", NoName: true}, ErrInvalidArgument, "NoName"},
		"no file":         {none, ImportOptions{}, ErrNotFound, "none"},
		"NUL in the path": {none + "\x00", ImportOptions{}, ErrInvalidArgument, "path"},
		"a directory":     {place, ImportOptions{}, ErrInvalidArgument, "no file"},
		"an image":        {busybox() + ".docker", ImportOptions{}, ErrInvalidArgument, "no archive of a box"},
		"half of it":      {half, ImportOptions{NoName: true}, ErrInvalidArgument, "half"},
	} {
		made, err := rt.Import(ctx, refused.path, refused.options)
		fails(t, err, refused.code, refused.text)
		if made != nil || t.Failed() {
			t.Fatal(name, made)
		}
	}
	ok(t, box.Start(ctx))
	ok(t, box.Pause(ctx))
	_, err = box.Export(ctx, none, ExportOptions{})
	fails(t, err, ErrInvalidState, "paused")
	lists(t, rt, ListFilter{}, "box")

	// Of a box that is gone there is none, nor of one that was closed.
	ok(t, rt.Remove(ctx, "box", true))
	_, err = box.Export(ctx, none, ExportOptions{})
	fails(t, err, ErrNotFound, "")
	ok(t, box.Close())
	if written, err := box.Export(ctx, none, ExportOptions{}); written != "" || err != ErrClosed {
		t.Error(written, err)
	}
	closed := openRuntime(t)
	ok(t, closed.Close(ctx))
	if made, err := closed.Import(ctx, archive, ImportOptions{}); made != nil || err != ErrClosed {
		t.Error(made, err)
	}
	if left := paths(t, place); !slices.Equal(left, []string{place, archive, half}) {
		t.Fatal(left)
	}
}
