#!/bin/bash
# usage: examples.sh BUILD
#
# Compiles the examples as a reader would, runs each against a real box in a home of its own,
# compares what it prints, and sees that nothing is left: no box, no process.
set -euo pipefail
build=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../../examples/c"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BOXLITE_HOME=$work/home
image=$build/images/busybox
longest=60

fail() {
    printf 'examples: %s\n' "$*" >&2
    exit 1
}

# compile NAME [FLAG...]: into $work/NAME.
compile() {
    local name=$1 lines
    shift
    lines=$(wc -l <"$name.c")
    ((lines <= longest)) || fail "$name.c has $lines lines: a reader's patience ends at $longest"
    gcc -std=c11 -O1 -Wall -Wextra -Werror -pedantic -I../../include "$name.c" -o "$work/$name" \
        -L"$build/lib" -lboxlite -Wl,-rpath,"$build/lib" "$@"
}

# run CODE NAME [ARGUMENT...]: its output is in $work/out and $work/err afterwards.
run() {
    local wanted=$1 name=$2 code=0
    shift 2
    timeout 120 "$work/$name" "$@" >"$work/out" 2>"$work/err" || code=$?
    ((code == wanted)) || fail "$name ended with $code, not $wanted: $(cat "$work/out" "$work/err")"
}

# prints FILE WANTED: exactly that.
prints() {
    printf '%s' "$2" | cmp -s - "$work/$1" || fail "unexpected $1: $(cat "$work/$1")"
}

compile run
compile script
compile epoll
compile libuv $(pkg-config --cflags --libs libuv)

echo "run"
run 3 run "$image" sh -c 'echo to-stdout; echo to-stderr >&2; exit 3'
prints out $'to-stdout\n'
prints err $'to-stderr\n'
run 127 run "$image" no-such-command
grep -q '^run: .*no-such-command' "$work/err" || fail "the reason is missing: $(cat "$work/err")"
run 125 run "$work/no-such-image" true
grep -q 'no-such-image' "$work/err" || fail "the image is not named: $(cat "$work/err")"
run 125 run

echo "script"
run 0 script "$image"
prints out $'$ echo kept > /note; uname -s\nLinux\n(exit code 0)\n'\
$'$ cat /nothing\n(exit code 1)\n$ cat /note\nkept\n(exit code 0)\n'
run 125 script

echo "epoll"
run 0 epoll "$image" sh -c 'echo hello; sleep 0.3; echo again; exit 4'
for line in hello again; do
    (($(grep -c "^[0-9A-Z]*: $line$" "$work/out") == 10)) || fail "not ten '$line': $(cat "$work/out")"
done
(($(cut -s -d: -f1 "$work/out" | sort -u | wc -l) == 10)) || fail "not ten boxes: $(cat "$work/out")"
(($(grep -c '^exit code 4, signal 0' "$work/out") == 10)) || fail "not ten ends: $(cat "$work/out")"
run 125 epoll

echo "libuv"
run 0 libuv "$image" sh -c 'echo to-stdout; echo to-stderr >&2; kill -9 $$'
prints out $'to-stdout\nexit code 137, signal 9 \n'
prints err $'to-stderr\n'
run 125 libuv

[[ -z $(ls "$BOXLITE_HOME/boxes") ]] || fail "boxes are left: $(ls "$BOXLITE_HOME/boxes")"
for ((tries = 100; tries > 0; tries--)); do
    # Not an argument of grep's, or it would find itself.
    left=$(grep -lsaFf - /proc/[0-9]*/cmdline <<<"$work" || true)
    [[ -n $left ]] || break
    sleep 0.1
done
[[ -z $left ]] || fail "processes are left: $left"
