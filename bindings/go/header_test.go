package boxlite

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// unbound are the enumerations that the package has no use for.
var unbound = []string{"BOXLITE_LOG_"}

// enumerators returns those of the header by name.
func enumerators(t *testing.T) map[string]int {
	t.Helper()
	header, err := os.ReadFile(filepath.Join("..", "..", "include", "boxlite.h"))
	ok(t, err)
	found := map[string]int{}
	for _, match := range regexp.MustCompile(`(?m)^ +(BOXLITE_\w+) = (\d+),$`).FindAllSubmatch(header, -1) {
		number, err := strconv.Atoi(string(match[2]))
		ok(t, err)
		found[string(match[1])] = number
	}
	if found["BOXLITE_GAP"] != 69 || found["BOXLITE_METRIC_CONTAINER_INIT_MS"] != 307 {
		t.Fatalf("the header is not as it was: %v", found)
	}
	return found
}

func TestEveryEnumeratorOfTheHeaderIsBound(t *testing.T) {
	files, err := filepath.Glob("*.go")
	ok(t, err)
	bound := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		ok(t, err)
		for _, match := range regexp.MustCompile(`\bC\.(BOXLITE_\w+)`).FindAllSubmatch(text, -1) {
			bound[string(match[1])] = true
		}
	}
	for name := range enumerators(t) {
		if !bound[name] && !slices.ContainsFunc(unbound, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			t.Errorf("%s is nowhere", name)
		}
	}
}

func TestMetricsAndEventsHaveTheNamesOfTheHeader(t *testing.T) {
	metrics := 0
	for name, number := range enumerators(t) {
		if metric, is := strings.CutPrefix(name, "BOXLITE_METRIC_"); is {
			metrics++
			if got := Metric(number).String(); got != strings.ToLower(metric) {
				t.Errorf("metric %d is %s, not %s", number, got, metric)
			}
		}
		if event, is := strings.CutPrefix(name, "BOXLITE_EVENT_"); is {
			if got := EventKind(number).String(); got != strings.ToLower(strings.ReplaceAll(event, "_", " ")) {
				t.Errorf("event %d is %s, not %s", number, got, event)
			}
		}
	}
	if metrics != len(metricNames) || Metric(99).String() != "metric 99" {
		t.Errorf("%d metrics instead of %d; %v", len(metricNames), metrics, Metric(99))
	}
}
