package boxlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lists compares what a filter lets through by name, "" for a box without one.
func lists(t *testing.T, rt *Runtime, filter ListFilter, wanted ...string) []Info {
	t.Helper()
	infos, err := rt.ListMatching(within(t), filter)
	ok(t, err)
	var names []string
	for _, info := range infos {
		names = append(names, info.Name)
	}
	if !slices.Equal(names, wanted) {
		t.Fatalf("%+v lets through %q, not %q", filter, names, wanted)
	}
	return infos
}

func TestLabelsAreToldAsTheyWereGiven(t *testing.T) {
	labels := map[string]string{"empty": "", "a.b/c-d_E9": "ä \"quoted\"\n=", "long": strings.Repeat("v", 4096)}
	for n := range 61 {
		labels[fmt.Sprint("label-", n)] = fmt.Sprint(n)
	}
	box := newBox(t, shared, BoxOptions{Labels: labels})
	if info := inspect(t, box); !maps.Equal(info.Labels, labels) {
		t.Fatalf("%q", info.Labels)
	}
	if info := inspect(t, testBox); info.Labels != nil {
		t.Fatalf("%q", info.Labels)
	}
}

func TestListsOfSomeBoxes(t *testing.T) {
	rt := openRuntime(t)
	newBox(t, rt, BoxOptions{Name: "web-blue", Labels: map[string]string{"colour": "blue", "kind": "web"}})
	red := newBox(t, rt, BoxOptions{Name: "web-red", Labels: map[string]string{"colour": "red"}})
	newBox(t, rt, BoxOptions{})

	lists(t, rt, ListFilter{}, "", "web-red", "web-blue")
	infos := lists(t, rt, ListFilter{Labels: []string{"colour"}}, "web-red", "web-blue")
	if infos[0].ID != red.ID() || infos[1].Labels["kind"] != "web" {
		t.Fatalf("%+v", infos)
	}
	lists(t, rt, ListFilter{Labels: []string{"colour=blue"}}, "web-blue")
	lists(t, rt, ListFilter{Labels: []string{"colour", "kind=web"}}, "web-blue")
	lists(t, rt, ListFilter{Labels: []string{"colour=blue", "colour=red"}})
	lists(t, rt, ListFilter{Labels: []string{"colour="}})
	lists(t, rt, ListFilter{NamePrefix: "web-"}, "web-red", "web-blue")
	lists(t, rt, ListFilter{NamePrefix: "web-%"})
	lists(t, rt, ListFilter{Image: busybox(), NamePrefix: "web-r"}, "web-red")
	lists(t, rt, ListFilter{Image: "busybox"})

	ok(t, red.Start(within(t)))
	lists(t, rt, ListFilter{Statuses: []BoxStatus{StatusRunning}}, "web-red")
	lists(t, rt, ListFilter{Statuses: []BoxStatus{StatusRunning, StatusConfigured}}, "", "web-red", "web-blue")
	lists(t, rt, ListFilter{Statuses: []BoxStatus{StatusUnknown}})
}

func TestBadLabelsAndFiltersAreRefused(t *testing.T) {
	ctx := within(t)
	many := map[string]string{}
	for n := range 65 {
		many[fmt.Sprint("label-", n)] = ""
	}
	for name, labels := range map[string]map[string]string{
		"too many":     many,
		"empty name":   {"": "value"},
		"space":        {"a b": "value"},
		"long name":    {strings.Repeat("n", 64): ""},
		"long value":   {"name": strings.Repeat("v", 4097)},
		"NUL in value": {"name": "a\x00b"},
		"not UTF-8":    {"name": "\xff"},
	} {
		if box, err := shared.Create(ctx, BoxOptions{Image: busybox(), Labels: labels}); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: %v %v", name, box, err)
		}
	}
	for name, filter := range map[string]ListFilter{
		"status":        {Statuses: []BoxStatus{StatusRunning, 99}},
		"label":         {Labels: []string{"a b"}},
		"no label":      {Labels: []string{"=value"}},
		"NUL in label":  {Labels: []string{"name=a\x00b"}},
		"NUL in prefix": {NamePrefix: "a\x00b"},
		"NUL in image":  {Image: "a\x00b"},
	} {
		if infos, err := shared.ListMatching(ctx, filter); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: %v %v", name, infos, err)
		}
	}
}

// spoil changes the database of a home behind the library's back.
func spoil(t *testing.T, home, sql string) {
	t.Helper()
	database := filepath.Join(home, "db", "boxlite.db")
	out, err := exec.Command("sqlite3", "-bail", database, "PRAGMA busy_timeout = 10000; "+sql).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", sql, err, out)
	}
}

func TestABoxThatCannotBeReadIsListedAndCanBeRemoved(t *testing.T) {
	ctx := within(t)
	dir := t.TempDir()
	rt := openWith(t, Options{Home: dir})
	newBox(t, rt, BoxOptions{Name: "good"})
	newBox(t, rt, BoxOptions{Name: "config", Labels: map[string]string{"kind": "spoiled"}})
	held := newBox(t, rt, BoxOptions{Name: "state", Labels: map[string]string{"kind": "spoiled"}})
	spoil(t, dir, "UPDATE box_config SET json = substr(json, 1, 40) WHERE name = 'config'")
	spoil(t, dir, "UPDATE box_state SET json = 'x' WHERE id = '"+held.ID()+"'")

	infos := lists(t, rt, ListFilter{}, "state", "config", "good")
	for n, why := range []string{"state", "configuration", ""} {
		info := infos[n]
		if (info.Status == StatusUnknown) != (why != "") || (info.Reason == "") != (why == "") || !strings.Contains(info.Reason, why) ||
			info.ID == "" || info.CreatedAt.IsZero() || info.PID != 0 {
			t.Errorf("%+v", info)
		}
	}
	// What can be read is told.
	if infos[0].Labels["kind"] != "spoiled" || infos[0].CPUs != 1 || infos[1].Labels != nil {
		t.Errorf("%+v", infos)
	}
	lists(t, rt, ListFilter{Statuses: []BoxStatus{StatusUnknown}}, "state", "config")

	for name, use := range map[string]func(context.Context) error{
		"get":     func(ctx context.Context) error { _, err := rt.Get(ctx, "config"); return err },
		"start":   held.Start,
		"inspect": func(ctx context.Context) error { _, err := held.Inspect(ctx); return err },
	} {
		var failure *Error
		if err := use(ctx); !errors.Is(err, ErrMetadata) || !errors.As(err, &failure) || failure.Message == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if countMachines(dir) != 0 {
		t.Error("a machine was started")
	}
	ok(t, rt.Remove(ctx, "config", false))
	ok(t, rt.Remove(ctx, "state", true))
	lists(t, rt, ListFilter{}, "good")
}
