#!/bin/bash
# usage: test.sh BUILD
#
# Tests the Go binding and its examples on real boxes, with the library in BUILD, and ends with a
# line that counts. Works on nothing but BUILD and a directory that is removed again.
set -euo pipefail
build=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$(realpath ../..)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/pkgconfig" "$work/bin" "$work/tmp"
cat >"$work/pkgconfig/boxlite.pc" <<PC
Name: boxlite
Description: libboxlite, not installed
Version: 0.1.0
Cflags: -I"$root/include"
Libs: -L"$build/lib" -lboxlite
PC
export PKG_CONFIG_PATH=$work/pkgconfig
export LD_LIBRARY_PATH=$build/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export BOXLITE_LIBEXEC=$build/libexec/boxlite
export BOXLITE_TEST_IMAGES=$build/images
export BOXLITE_HOME=$work/home
export TMPDIR=$work/tmp
image=$build/images/busybox

passed=0 failed=0
# check NAME FUNCTION: one test. The function's last command decides: `set -e` is off in it.
check() {
    local name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        echo "passed: $name"
        passed=$((passed + 1))
    else
        echo "FAILED: $name"
        sed 's/^/    /' "$work/log"
        failed=$((failed + 1))
    fi
}

formatted() { [[ -z $(gofmt -l . "$root/examples/go") ]]; }

build_examples() {
    (cd "$root/examples/go" && go vet ./... && go build -o "$work/bin/" ./...)
}

hello_prints() {
    local output code=0
    output=$("$work/bin/hello" "$image" sh -c 'echo out; echo err >&2; exit 7' 2>"$work/err") || code=$?
    cat "$work/err"
    [[ $output == out && $code == 7 ]] && grep -qx err "$work/err"
}

hello_fails() {
    local code=0
    "$work/bin/hello" "$work/no-such-image" true 2>"$work/err" || code=$?
    cat "$work/err"
    [[ $code == 125 ]] && grep -q no-such-image "$work/err"
}

stream_both_ways() {
    head -c 4000000 /dev/urandom >"$work/data"
    "$work/bin/stream" "$image" cat <"$work/data" | cmp - "$work/data"
}

stream_times_out() {
    local code=0
    timeout 120 "$work/bin/stream" -timeout 2s "$image" sleep 1000 </dev/null || code=$?
    [[ $code == 124 ]]
}

stream_is_interrupted() {
    local code=0
    "$work/bin/stream" "$image" sh -c 'echo begun; exec sleep 1000' </dev/null >"$work/out" &
    local pid=$!
    until grep -q begun "$work/out"; do
        kill -0 $pid || return 1
        sleep 0.1
    done
    kill -INT $pid
    wait $pid || code=$?
    [[ $code == 130 ]]
}

readme_runs() {
    mkdir "$work/readme"
    sed -n '/^```go$/,/^```$/p' README.md | sed '/^```/d' >"$work/readme/main.go"
    sed "s,=> .*,=> $PWD," "$root/examples/go/go.mod" >"$work/readme/go.mod"
    [[ $(cd "$work/readme" && go run . "$image") == $'hello from a box\nexit status 0' ]]
}

nothing_is_left() {
    find "$work/tmp" "$work/home/boxes" -mindepth 1 -maxdepth 1 | tee "$work/left"
    [[ ! -s $work/left ]] || return 1
    for _ in $(seq 100); do
        grep -slFf - /proc/[0-9]*/cmdline <<<"$work" >"$work/left" || return 0
        sleep 0.1
    done
    cat "$work/left"
    return 1
}

check "the code is formatted" formatted
check "go vet" go vet .

status=0
GODEBUG=cgocheck=1 go test -race -count=1 -timeout 10m -v . 2>&1 | tee "$work/tests" || status=$?
p=$(grep -c '^ *--- PASS' "$work/tests" || true)
f=$(grep -c '^ *--- FAIL' "$work/tests" || true)
if ((status != 0 && f == 0)); then f=1; fi
passed=$((passed + p)) failed=$((failed + f))

check "the examples are built" build_examples
check "hello prints what a command writes, and exits with its code" hello_prints
check "hello tells what is wrong" hello_fails
check "stream connects both ways" stream_both_ways
check "stream kills a command after its time" stream_times_out
check "stream kills a command when interrupted" stream_is_interrupted
check "the README's example runs" readme_runs
check "nothing is left" nothing_is_left

printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
