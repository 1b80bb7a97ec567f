#!/bin/bash
# usage: crash.sh BUILD [CASE]
#
# Runs tests/crash: programs and supervisors that are killed between any two steps, with the kernel and
# the agent that `make build` put into BUILD. Its variables are in tests/crash/main.rs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=$(realpath "$1")
shift
export BOXLITE_LIBEXEC=$build/libexec/boxlite
export BOXLITE_TEST_IMAGES=$build/images

# Only our own crate is compiled anew, with its failpoints, and faster than it then runs. What `make
# build` makes is not this: cargo keeps the two apart.
exec cargo test --locked --release -p boxlite --features failpoints \
    --config 'profile.release.package.boxlite.opt-level=1' --test crash -- "$@"
