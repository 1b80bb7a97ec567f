#!/bin/bash
# usage: symbols.sh BUILD
#
# What the built libraries show the world: the header's functions, versioned, and nothing else.
set -euo pipefail
so=$1/lib/libboxlite.so
archive=$1/lib/libboxlite.a
header=$(dirname "${BASH_SOURCE[0]}")/../../include/boxlite.h
failed=0

# same WHAT WANTED FOUND: shows each line in which they differ.
same() {
    local difference
    if ! difference=$(diff <(printf '%s\n' "$2") <(printf '%s\n' "$3")); then
        printf '%s: < wanted, > found\n%s\n' "$1" "$difference" >&2
        failed=1
    fi
}

# Names that are followed by a parenthesis, comments taken out.
functions=$(gcc -E -P "$header" | grep -oE '\bboxlite_\w+ *\(' | tr -d ' (' | sort)

same "symbols of the shared library" "$(sed 's/.*/T &@@BOXLITE_0/' <<<"$functions")" \
    "$(nm -D --defined-only "$so" | sed 's/^[0-9a-f]* //' | grep -vx 'A BOXLITE_0' | sort)"
same "global symbols of the static library" "$(sed 's/^/T /' <<<"$functions")" \
    "$(nm --defined-only --extern-only "$archive" | sed -n 's/^[0-9a-f]\{16\} //p' | sort)"

dynamic=$(readelf -dW "$so")
same "soname" libboxlite.so.0 "$(sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p' <<<"$dynamic")"
same "libraries that are needed" $'ld-linux-x86-64.so.2\nlibc.so.6\nlibgcc_s.so.1\nlibm.so.6' \
    "$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$dynamic" | sort)"
same "flags" "NOW NODELETE" "$(sed -n 's/.*(FLAGS_1) *Flags: //p' <<<"$dynamic")"
same "relocations in code, search paths" "" "$(grep -E 'TEXTREL|RPATH|RUNPATH' <<<"$dynamic" || true)"
same "rights of the stack" RW "$(readelf -lW "$so" | awk '$1 == "GNU_STACK" { print $7 }')"
same "parts that are read-only after relocation" 1 "$(readelf -lW "$so" | grep -c GNU_RELRO || true)"

# What tests need to kill processes is not in what is installed.
same "failpoints" "" "$(grep -l BOXLITE_FAILPOINT "$so" "$archive" "$1/libexec/boxlite/boxlite-shim" || true)"

exit "$failed"
