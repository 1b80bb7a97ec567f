#!/bin/bash
# usage: readme.sh BUILD
#
# Compiles and runs the README's C example, as a reader would.
set -euo pipefail
build=$1
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -n '/^```c$/,/^```$/p' README.md | sed '/^```/d' >"$work/first.c"
gcc -std=c11 -Wall -Wextra -Werror "$work/first.c" -o "$work/first" \
    -Iinclude -L"$build/lib" -lboxlite -Wl,-rpath,"$build/lib"
mkdir -p "$work/run/build"
ln -s "$build/images" "$work/run/build/images"
cd "$work/run"
output=$(BOXLITE_HOME=$work/home "$work/first")
[[ $output == "hello from a box" ]]
