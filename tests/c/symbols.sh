#!/bin/bash
# usage: symbols.sh BUILD
#
# The library as a linker sees it: its name, and its symbols beside the header's. The header as
# compilers see it: in each language that it is for, without a warning.
set -euo pipefail
library=$(realpath "$1")/lib/libboxlite.so.0
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

warnings=(-Wall -Wextra -Werror -pedantic -Iinclude -fsyntax-only)
printf '#include <boxlite.h>\n#include <boxlite.h>\nint main(void) { return BOXLITE_OK; }\n' >"$work/a.c"
for standard in c99 c11 c17; do gcc -std=$standard "${warnings[@]}" "$work/a.c"; done
for standard in c++11 c++17 c++20; do g++ -x c++ -std=$standard "${warnings[@]}" "$work/a.c"; done

readelf -d "$library" | grep -q 'soname: \[libboxlite\.so\.0\]' || {
    echo "$library has another soname" >&2
    exit 1
}

# Functions stand at the beginning of a line or behind their type; callbacks are typedefs.
grep -v '^ *//' include/boxlite.h | grep -oE '^[a-z].*\bboxlite_[a-z0-9_]+\(' | grep -v '^typedef' |
    grep -oE 'boxlite_[a-z0-9_]+\($' | tr -d '(' | sort >"$work/declared"
nm -D --defined-only "$library" | awk '{ print $3 }' | sort >"$work/exported"
[[ -s $work/declared ]] || { echo "no functions were found in the header" >&2; exit 1; }
diff "$work/declared" "$work/exported" >"$work/difference" || {
    echo "declared (<) and exported (>) are not the same:" >&2
    cat "$work/difference" >&2
    exit 1
}
echo "$(wc -l <"$work/declared") functions, declared and exported"
