#!/bin/bash
# usage: test.sh BUILD
#
# Runs every test against what `make build` put into BUILD, and ends with one line that counts
# them all. A failed part does not keep the others from running.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=$1
passed=0 failed=0 skipped=0

export BOXLITE_LIBEXEC=$build/libexec/boxlite
export BOXLITE_TEST_IMAGES=$build/images

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# count PATTERN FIELD: the sum of a number over all lines of the log that match.
count() { sed -nE "s/$1/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'; }

echo "== Rust: units and integration"
status=0
cargo test --locked --release --workspace --no-fail-fast 2>&1 | tee "$log" || status=$?
p=$(count '^test result: .* ([0-9]+) passed.*')
f=$(count '^test result: .* ([0-9]+) failed.*')
s=$(count '^test result: .* ([0-9]+) ignored.*')
if ((status != 0 && f == 0)); then f=1; fi
passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))

echo "== Rust: events, under every interleaving"
status=0
RUSTFLAGS="--cfg loom" cargo test --locked --release -p boxlite-events --test loom \
    --target-dir target/loom 2>&1 | tee "$log" || status=$?
p=$(count '^test result: .* ([0-9]+) passed.*')
f=$(count '^test result: .* ([0-9]+) failed.*')
if ((status != 0 && f == 0)); then f=1; fi
passed=$((passed + p)) failed=$((failed + f))

echo "== Rust: programs and supervisors that are killed at each failpoint"
status=0
scripts/crash.sh "$build" 2>&1 | tee "$log" || status=$?
p=$(count '^test result: .* ([0-9]+) passed.*')
f=0
if ((status != 0)); then f=1; fi
passed=$((passed + p)) failed=$((failed + f))

echo "== C: against real machines, with the address sanitizer"
status=0
{
    cmake -S tests/c -B "$build/ctest" -DBOXLITE_BUILD="$build" >/dev/null &&
        cmake --build "$build/ctest" &&
        ctest --test-dir "$build/ctest" --output-on-failure
} 2>&1 | tee "$log" || status=$?
total=$(count '^[0-9]+% tests passed.* out of ([0-9]+)$')
f=$(count '^[0-9]+% tests passed, ([0-9]+) tests failed.*')
if ((status != 0 && f == 0)); then f=1; fi
passed=$((passed + total - f)) failed=$((failed + f))

# binding LANGUAGE CONDITION DIRECTORY: tests a binding, where its language is new enough.
binding() {
    echo "== $1"
    if ! eval "$2" >/dev/null 2>&1; then
        echo "skipped: no $1 that can build the binding"
        skipped=$((skipped + 1))
        return
    fi
    local status=0 p f
    "bindings/$3/test.sh" "$build" 2>&1 | tee "$log" || status=$?
    p=$(count '^([0-9]+) passed, [0-9]+ failed$')
    f=$(count '^[0-9]+ passed, ([0-9]+) failed$')
    if ((status != 0 && f == 0)); then f=1; fi
    passed=$((passed + p)) failed=$((failed + f))
}
binding Go '[[ $(go env GOVERSION) =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 24))' go
binding Node '(($(node -p process.versions.node | cut -d. -f1) >= 18))' node

# The same library as somebody who is not root, where we may become somebody else.
if ((EUID == 0)) && command -v setpriv >/dev/null; then
    echo "== C: as an ordinary user"
    user=$(mktemp -d)
    trap 'rm -rf "$log" "$user"' EXIT
    mkdir "$user/home" "$user/images"
    cp -r "$build/lib" "$build/libexec" "$user/"
    cp -rL "$build/images/busybox" "$user/images/"
    for test in exec errors lifecycle death; do cp "$build/ctest/test_$test" "$user/" || true; done
    chown -R 65534:65534 "$user"
    for test in exec errors lifecycle death; do
        if (cd "$user" && env -i PATH="$PATH" HOME="$user/home" LD_LIBRARY_PATH="$user/lib" \
            BOXLITE_LIBEXEC="$user/libexec/boxlite" BOXLITE_TEST_IMAGES="$user/images" \
            setpriv --reuid 65534 --regid 65534 --clear-groups "./test_$test"); then
            echo "$test: passed"
            passed=$((passed + 1))
        else
            echo "$test: FAILED"
            failed=$((failed + 1))
        fi
    done
fi

printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
