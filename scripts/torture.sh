#!/bin/bash
# usage: torture.sh BUILD
#
# What `make test` does a little of, in full: kills, disks that fail, power that goes, races, growth.
# TORTURE_KILLS, TORTURE_SEED, RACE_SECONDS, BOXLITE_GROWTH_BOXES and BOXLITE_GROWTH_COMMANDS say how much.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=$1
export BOXLITE_TEST_IMAGES=$build/images
export TORTURE_KILLS=${TORTURE_KILLS:-500} RACE_SECONDS=${RACE_SECONDS:-60}
export BOXLITE_GROWTH_BOXES=${BOXLITE_GROWTH_BOXES:-1000}
export BOXLITE_GROWTH_COMMANDS=${BOXLITE_GROWTH_COMMANDS:-10000}
failed=0

echo "== every fault, every loss of power, $TORTURE_KILLS kills, and a race of $RACE_SECONDS s"
scripts/crash.sh "$build" || failed=1

echo "== growth in $BOXLITE_GROWTH_BOXES boxes and $BOXLITE_GROWTH_COMMANDS commands"
cmake -S tests/c -B "$build/ctest" -DBOXLITE_BUILD="$build" >/dev/null
cmake --build "$build/ctest" --target test_growth
"$build/ctest/test_growth" || failed=1

exit "$failed"
