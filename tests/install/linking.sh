#!/bin/bash
# usage: linking.sh BUILD
#
# What both libraries are linked from still works as Rust: panics are caught (panic.c). And the
# static one keeps to itself (clash.c, with other.rs before and behind it).
set -euo pipefail
build=$1
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BOXLITE_HOME=$work/home BOXLITE_LIBEXEC=$build/libexec/boxlite

# prints WORDS SOURCE LINK…: a program that is linked in this way.
prints() {
    local wanted=$1 output
    shift
    gcc -std=c11 -Wall -Wextra -Werror -pedantic -I../../include "$@" -o "$work/program"
    output=$("$work/program" 2>"$work/log") || { cat "$work/log" >&2; exit 1; }
    [[ $output == "$wanted" ]]
    echo "$*: passed"
}

static=$build/lib/libboxlite.a
prints caught panic.c -L"$build/lib" -lboxlite -Wl,-rpath,"$build/lib"
prints caught panic.c "$static" -lm

rustc --edition 2024 --crate-type staticlib -o "$work/libother.a" other.rs
prints "no clash" clash.c "$static" "$work/libother.a" -lm
prints "no clash" clash.c "$work/libother.a" "$static" -lm
