#!/bin/bash
# usage: functions.sh BUILD
#
# Every function that the library exports is explained in the header and called by a test in C.
set -euo pipefail
root=$(dirname "${BASH_SOURCE[0]}")/../..

exported=$(nm -D --defined-only "$1/lib/libboxlite.so" | sed -n 's/.* T \(.*\)@@.*/\1/p')
# The name before the first parenthesis of a line at the left margin that follows a comment.
explained=$(awk '/^[a-z].*boxlite_[a-z0-9_]+\(/ && before ~ /^\/\// { print }
    { before = $0 }' "$root/include/boxlite.h" | sed -E 's/\(.*//; s/.*[ *]//')
# Names that are followed by a parenthesis, comments taken out.
called=$(find "$root/tests" -name '*.[ch]' -exec sed 's@//.*@@' {} + | grep -oE '\bboxlite_\w+ *\(' | tr -d ' (')

failed=0
[[ -n $exported ]] || failed=1
for function in $exported; do
    if ! grep -qx "$function" <<<"$explained"; then
        echo "$function: no comment in the header" >&2
        failed=1
    fi
    if ! grep -qx "$function" <<<"$called"; then
        echo "$function: no test calls it" >&2
        failed=1
    fi
done
exit "$failed"
