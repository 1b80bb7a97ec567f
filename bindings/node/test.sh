#!/bin/bash
# usage: test.sh BUILD
#
# Builds the binding against what `make build` put into BUILD, runs its tests and the examples on
# real boxes, and ends with one line that counts them.
set -euo pipefail
build=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")"
passed=0 failed=0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A build tree has no pkg-config file: that comes with `make install`.
cat >"$work/boxlite.pc" <<PC
libdir=$build/lib
Name: boxlite
Description: Runs OCI images in virtual machines
Version: 0.1.0
Cflags: -I$(realpath ../../include)
Libs: -L\${libdir} -lboxlite
PC
export PKG_CONFIG_PATH=$work
export BOXLITE_LIBEXEC=$build/libexec/boxlite
export BOXLITE_TEST_IMAGES=$build/images

# check NAME COMMAND...
check() {
    local name=$1
    shift
    if "$@"; then
        printf 'ok: %s\n' "$name"
        passed=$((passed + 1))
    else
        printf 'FAILED: %s\n' "$name"
        failed=$((failed + 1))
    fi
}

# parses FILE...: each is JavaScript.
parses() {
    local file
    for file in "$@"; do node --check "$file" || return; done
}

check 'the addon builds without a warning' env CXXFLAGS=-Werror ./build.sh
check 'every file parses' parses lib/*.js test/*.js ../../examples/node/*.js

if ((failed == 0)); then
    status=0
    node --expose-gc --test --test-concurrency=1 \
        --test-reporter=spec --test-reporter-destination=stdout \
        --test-reporter=tap --test-reporter-destination="$work/tap" test/*.test.js || status=$?
    p=$(sed -n 's/^# pass //p' "$work/tap")
    f=$(sed -n 's/^# fail //p' "$work/tap")
    if ((status != 0 && ${f:-0} == 0)); then f=1; fi
    passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0}))
fi

printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
