package boxlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// identity is what tells a box from all others.
const identity = "cat /etc/machine-id /etc/hostname"

// goes has a box removed with the test.
func goes(t *testing.T, box *Box) *Box {
	t.Helper()
	t.Cleanup(func() {
		if err := box.runtime.Remove(within(t), box.ID(), true); err != nil && !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		box.Close()
	})
	return box
}

// clone makes a clone that goes with the test.
func clone(t *testing.T, box *Box, options CloneOptions) *Box {
	t.Helper()
	made, err := box.Clone(within(t), options)
	ok(t, err)
	return goes(t, made)
}

// clones makes clones that go with the test, and compares their names.
func clones(t *testing.T, box *Box, options ClonesOptions, names ...string) []*Box {
	t.Helper()
	made, err := box.Clones(within(t), options)
	ok(t, err)
	var got []string
	for _, one := range made {
		got = append(got, goes(t, one).Name())
	}
	if !slices.Equal(got, names) {
		t.Fatalf("the clones are %q, not %q", got, names)
	}
	return made
}

// tells returns what a script writes in a box.
func tells(t *testing.T, box *Box, script string) string {
	t.Helper()
	out, err := box.Run(within(t), shell(script), 1<<16)
	ok(t, err)
	return string(out.Stdout)
}

// countBases counts the files that clones share.
func countBases(t *testing.T, home string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(home, "bases"))
	ok(t, err)
	return len(entries)
}

func TestClonesOfAStoppedBox(t *testing.T) {
	ctx := within(t)
	dir := t.TempDir()
	rt := openWith(t, Options{Home: dir})
	source := newBox(t, rt, BoxOptions{Name: "source", MemoryMiB: 300, Labels: map[string]string{"kind": "sheep"}})
	says(t, source, "echo wool > /file; sync; cat /file", "wool\n")
	known := []string{source.ID(), tells(t, source, identity)}
	ok(t, source.Stop(ctx, time.Second))

	made := clones(t, source, ClonesOptions{Names: []string{"dolly", "", "molly"}}, "dolly", "", "molly")
	if n := countBases(t, dir); n != 1 {
		t.Fatal(n, "bases")
	}
	for n, one := range made {
		info := inspect(t, one)
		if info.Status != StatusConfigured || info.MemoryMiB != 300 || info.Labels["kind"] != "sheep" ||
			info.ID != one.ID() || info.Name != one.Name() {
			t.Fatalf("%+v", info)
		}
		says(t, one, fmt.Sprint("cat /file; echo ", n, " > /file; sync"), "wool\n")
		for _, own := range []string{one.ID(), tells(t, one, identity)} {
			if own == "" || slices.Contains(known, own) {
				t.Fatalf("%q is somebody else's", own)
			}
			known = append(known, own)
		}
	}
	says(t, source, "cat /file; echo cut > /file", "wool\n")
	for n, one := range made {
		says(t, one, "cat /file", fmt.Sprintln(n))
	}
	found, err := rt.Get(ctx, "dolly")
	ok(t, err)
	defer found.Close()
	if found.ID() != made[0].ID() {
		t.Fatal(found.ID())
	}

	// What they are on stays until the last has gone.
	ok(t, rt.Remove(ctx, "source", true))
	ok(t, rt.Remove(ctx, "dolly", true))
	ok(t, rt.Remove(ctx, made[1].ID(), true))
	says(t, made[2], "cat /file", "2\n")
	if n := countBases(t, dir); n != 1 {
		t.Fatal(n, "bases")
	}
	ok(t, rt.Remove(ctx, "molly", true))
	if n := countBases(t, dir); n != 0 {
		t.Fatal(n, "bases")
	}
}

func TestClonesOfARunningBox(t *testing.T) {
	ctx := within(t)
	source := newBox(t, shared, BoxOptions{})
	exec, err := source.Exec(ctx, Command{Args: []string{"sh", "-c", "echo one > /file; read line; echo $line"}, Stdin: true})
	ok(t, err)
	defer exec.Close()
	stdout := exec.Stdout()
	says(t, source, "until grep -qs one /file; do usleep 10000; done", "")
	first := clone(t, source, CloneOptions{})
	if first.Name() != "" || first.ID() == source.ID() {
		t.Fatalf("%q %q", first.Name(), first.ID())
	}
	says(t, source, "cat /file; echo two > /file", "one\n")
	second := clone(t, source, CloneOptions{Name: "second"})
	if second.Name() != "second" {
		t.Fatalf("%q", second.Name())
	}
	says(t, first, "cat /file; echo first > /file", "one\n")
	says(t, second, "cat /file; echo second > /file", "two\n")
	third := clone(t, second, CloneOptions{})
	says(t, third, "cat /file", "second\n")
	says(t, source, "cat /file", "two\n")

	// Its processes have gone on.
	_, err = exec.Stdin().Write([]byte("here\n"))
	ok(t, err)
	if got := readAll(t, stdout); got != "here\n" {
		t.Fatalf("%q", got)
	}
}

func TestClonesOfASnapshot(t *testing.T) {
	ctx := within(t)
	source := newBox(t, shared, BoxOptions{})
	says(t, source, "echo one > /file; cat /file", "one\n")
	makes(t, source, "one")
	says(t, source, "echo two > /file; cat /file", "two\n")
	first := clone(t, source, CloneOptions{Snapshot: "one", Name: "of-one"})
	if first.Name() != "of-one" {
		t.Fatalf("%q", first.Name())
	}
	more := clones(t, source, ClonesOptions{Snapshot: "one", Count: 2}, "", "")
	says(t, first, "cat /file; echo mine > /file", "one\n")
	says(t, more[1], "cat /file", "one\n")
	has(t, first)

	// They are on it, also when its box has gone.
	fails(t, source.RemoveSnapshot(ctx, "one"), ErrInvalidState, first.ID())
	ok(t, shared.Remove(ctx, source.ID(), true))
	says(t, first, "cat /file", "mine\n")
	says(t, more[0], "cat /file", "one\n")
}

func TestManyClonesAreMadeAtOnce(t *testing.T) {
	ctx := within(t)
	rt := openRuntime(t)
	source := newBox(t, rt, BoxOptions{})
	says(t, source, "echo one > /file; sync", "")
	made, err := source.Clones(ctx, ClonesOptions{Count: 50})
	ok(t, err)
	ids := map[string]bool{source.ID(): true}
	for _, one := range made {
		ids[one.ID()] = true
	}
	infos, err := rt.List(ctx)
	ok(t, err)
	if len(made) != 50 || len(ids) != 51 || len(infos) != 51 {
		t.Fatal(len(made), len(ids), len(infos))
	}
	says(t, made[37], "cat /file", "one\n")
}

func TestClonesThatAreRefused(t *testing.T) {
	ctx := within(t)
	rt := openRuntime(t)
	source := newBox(t, rt, BoxOptions{Name: "source"})
	for name, refused := range map[string]struct {
		options ClonesOptions
		code    Code
		text    string
	}{
		"name in use":     {ClonesOptions{Names: []string{"new", "source"}}, ErrAlreadyExists, "source"},
		"name twice":      {ClonesOptions{Names: []string{"new", "new"}}, ErrInvalidArgument, "twice"},
		"no name":         {ClonesOptions{Names: []string{"new", "a b"}}, ErrInvalidArgument, "a b"},
		"NUL in a name":   {ClonesOptions{Names: []string{"new", "a\x00b"}}, ErrInvalidArgument, "Names"},
		"none":            {ClonesOptions{}, ErrInvalidArgument, "count"},
		"less than none":  {ClonesOptions{Count: -1}, ErrInvalidArgument, "Count"},
		"too many":        {ClonesOptions{Count: 1001}, ErrInvalidArgument, "count"},
		"too many names":  {ClonesOptions{Names: make([]string, 1001)}, ErrInvalidArgument, "count"},
		"both":            {ClonesOptions{Names: []string{"new"}, Count: 1}, ErrInvalidArgument, "Count"},
		"no snapshot":     {ClonesOptions{Snapshot: "none", Count: 1}, ErrNotFound, "no snapshot 'none'"},
		"NUL in snapshot": {ClonesOptions{Snapshot: "a\x00b", Count: 1}, ErrInvalidArgument, "Snapshot"},
	} {
		made, err := source.Clones(ctx, refused.options)
		fails(t, err, refused.code, refused.text)
		if made != nil || t.Failed() {
			t.Fatal(name, made)
		}
	}
	for name, refused := range map[string]struct {
		options CloneOptions
		code    Code
		text    string
	}{
		"name in use":   {CloneOptions{Name: "source"}, ErrAlreadyExists, "source"},
		"NUL in a name": {CloneOptions{Name: "a\x00b"}, ErrInvalidArgument, "Name:"},
		"long name":     {CloneOptions{Name: strings.Repeat("n", 256)}, ErrInvalidArgument, ""},
		"no snapshot":   {CloneOptions{Snapshot: "none"}, ErrNotFound, "no snapshot 'none'"},
	} {
		made, err := source.Clone(ctx, refused.options)
		fails(t, err, refused.code, refused.text)
		if made != nil || t.Failed() {
			t.Fatal(name, made)
		}
	}
	ok(t, source.Start(ctx))
	ok(t, source.Pause(ctx))
	_, err := source.Clone(ctx, CloneOptions{})
	fails(t, err, ErrInvalidState, "resume it first")
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if made, err := source.Clone(cancelled, CloneOptions{}); made != nil || err != context.Canceled {
		t.Error(made, err)
	}
	lists(t, rt, ListFilter{}, "source")

	// Of a box that is gone there is none, nor of one that was closed.
	ok(t, rt.Remove(ctx, "source", true))
	_, err = source.Clone(ctx, CloneOptions{})
	fails(t, err, ErrNotFound, "")
	ok(t, source.Close())
	if made, err := source.Clones(ctx, ClonesOptions{Count: 2}); made != nil || err != ErrClosed {
		t.Error(made, err)
	}
	lists(t, rt, ListFilter{})
}
