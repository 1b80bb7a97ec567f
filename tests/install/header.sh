#!/bin/bash
# usage: header.sh
#
# The header alone, twice, under every standard that a compiler here knows, without a warning.
set -euo pipefail
include=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../include" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Nothing stands before it, and a user of its types after it.
cat >"$work/user.c" <<'END'
#include <boxlite.h>
#include <boxlite.h>
static void done(void *user_data, boxlite_op *op) { (void)user_data; boxlite_op_free(op); }
boxlite_status use(boxlite_box *box, boxlite_error **error);
boxlite_status use(boxlite_box *box, boxlite_error **error)
{
    boxlite_op *op;
    boxlite_status status = boxlite_box_start(box, &op, error);
    if (status != BOXLITE_OK) return status;
    return boxlite_op_on_complete(op, done, box, NULL, error);
}
END

# compile LANGUAGE COMPILER STANDARD…: those that the compiler does not know are left out.
count=0
compile() {
    local language=$1 compiler=$2 standard
    shift 2
    for standard in "$@"; do
        if ! "$compiler" -x "$language" -std="$standard" -fsyntax-only /dev/null 2>/dev/null; then continue; fi
        "$compiler" -x "$language" -std="$standard" -I"$include" -c -o "$work/user.o" \
            -Wall -Wextra -Wconversion -Wshadow -Wundef -Werror -pedantic "$work/user.c"
        echo "$compiler $standard: passed"
        count=$((count + 1))
    done
}

compile c gcc c99 c11 c17 c2x c23
compile c++ g++ c++17 c++20 c++23
# Those that every compiler knows: C99, C11, C17, C++17, C++20.
((count >= 5))
if command -v clang >/dev/null; then
    compile c clang c99 c11 c17 c2x
    compile c++ clang c++17 c++20
fi
