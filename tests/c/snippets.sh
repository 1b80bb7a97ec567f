#!/bin/bash
# usage: snippets.sh PAGE...
#
# Compiles every piece of C in the pages: whole functions as they are, statements inside a function
# that has what the examples have at hand.
set -euo pipefail
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# split PAGE: each piece into $work/N.c, N counting from 1.
split() {
    awk -v work="$work" '
        /^```c$/ { piece = work "/" ++n ".c"; next }
        /^```/ { piece = ""; next }
        piece { print > piece }
    ' "$1"
}

pieces=0
for page in "$@"; do
    rm -f "$work"/*.c
    split "$page"
    for piece in "$work"/*.c; do
        [[ -e $piece ]] || { echo "$page: no C in it" >&2; exit 1; }
        {
            echo '#include "common.h"'
            echo '#include <sys/epoll.h>'
            if grep -qE '^(static|int|void) ' "$piece"; then
                cat "$piece"
            else
                echo 'void snippet(boxlite_runtime *runtime, boxlite_box *box, boxlite_exec *exec,'
                echo '    boxlite_exec_options *command, boxlite_op *op, boxlite_output *output,'
                echo '    struct epoll_event event, int loop, volatile int running) {'
                cat "$piece"
                echo '}'
            fi
        } >"$work/whole.c"
        gcc -std=c11 -Wall -Wextra -Werror -pedantic -Wno-unused-parameter -Wno-unused-function \
            -Wno-unused-but-set-parameter -I"$root/include" -I"$root/examples/c" -c "$work/whole.c" -o "$work/whole.o" || {
            echo "$page: a piece of C does not compile" >&2
            exit 1
        }
        rm "$work/whole.c"
        pieces=$((pieces + 1))
    done
done
echo "$pieces pieces of C compile"
