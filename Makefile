# The entry to everything. `make run` and `make test` install what they need first.
#
#   make run [IMAGE=path] [CMD="words"]   boots a box and runs a command in it
#   make test                             every test, from units to virtual machines
#   make torture [TORTURE_KILLS=500] [RACE_SECONDS=60]   kills, faults, races and growth at length
#   make lint                             clippy, rustfmt, the header
#   make bench [RUNS=10] [STARTS=50] [MANY="100 200"]   figures, each beside its baseline
#   make build                            the library and its helpers, in build/
#   make install [PREFIX=/usr/local] [DESTDIR=]   what `make build` made
#   make header                           include/boxlite.h from the source
#   make doc                              the C API as pages, in build/doxygen/html

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

B := build
LIBEXEC := $(B)/libexec/boxlite
TARGET := x86_64-unknown-linux-gnu
CC := gcc
CFLAGS := -std=c11 -O2 -g -Wall -Wextra -Werror -pedantic

IMAGE :=
CMD := echo "hello from a box, on Linux $$(uname -r)"; echo "and this is stderr" >&2; exit 3

.PHONY: run test torture lint bench build install header doc clean deps test-deps kernel library guest images \
	test-images

run: build images
	@image="$(IMAGE)"; \
	BOXLITE_HOME=$${BOXLITE_HOME:-$(abspath $(B))/home} \
	$(B)/bin/hello "$${image:-$(B)/images/busybox}" sh -c '$(CMD)' || code=$$?; \
	if [[ $${code:-0} == 125 ]]; then exit 1; fi

deps:
	@scripts/install-deps.sh run

test-deps:
	@scripts/install-deps.sh test

# --- the library and its helpers ------------------------------------------------------------------

build: deps kernel guest library $(B)/bin/hello

kernel: deps
	@mkdir -p $(LIBEXEC)
	@kernel=$$(kernel/build.sh); \
	cmp -s "$$kernel" $(LIBEXEC)/vmlinux || install -m 644 "$$kernel" $(LIBEXEC)/vmlinux

# Static without position independence: nothing to relocate, fewer pages to touch.
guest: deps
	@mkdir -p $(LIBEXEC)
	@RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
	cargo build --locked --profile guest --target $(TARGET) -p boxlite-guest
	@scripts/initramfs.sh target/$(TARGET)/guest/boxlite-guest $(LIBEXEC)/initramfs

library: $(B)/lib/libboxlite.so

$(B)/lib/libboxlite.so: target/release/libboxlite.a include/boxlite.h \
		scripts/link-library.sh scripts/libboxlite.map
	@scripts/link-library.sh $< $(@D)

# Cargo decides what is out of date, in one run: the library's contents and the supervisor.
target/release/libboxlite.a: deps
	@mkdir -p $(LIBEXEC)
	@cargo build --locked --release -p boxlite --lib --bin boxlite-shim
	@install -m 755 target/release/boxlite-shim $(LIBEXEC)/.shim && mv $(LIBEXEC)/.shim $(LIBEXEC)/boxlite-shim

$(B)/bin/hello: examples/c/hello.c include/boxlite.h | library
	@mkdir -p $(B)/bin
	@$(CC) $(CFLAGS) -Iinclude $< -o $@ -L$(B)/lib -lboxlite -Wl,-rpath,'$$ORIGIN/../lib'

images: deps
	@scripts/test-images.sh $(B)/images busybox

# CMakeLists.txt knows what goes where.
PREFIX := /usr/local

install:
	@cmake -S . -B $(B)/cmake -DBOXLITE_BUILD=$(abspath $(B)) -DCMAKE_INSTALL_PREFIX=$(PREFIX) >/dev/null
	@DESTDIR=$(DESTDIR) cmake --install $(B)/cmake

# --- figures --------------------------------------------------------------------------------------

# Cold boots that are looked at in detail; starts of each kind; boxes started at the same time.
RUNS := 10
STARTS := 50
MANY := 100 200
# The others run in the guests.
BENCH_SOURCES := $(filter-out benches/inside.c benches/noop.c,$(wildcard benches/*.c))

bench: test-deps build images $(B)/bin/bench $(B)/bench/inside.initramfs $(B)/bench/noop
	@$(B)/bin/bench $(B)/images/busybox $(B)/bench $(B)/bench.json $(RUNS) $(STARTS) $(MANY)
	@echo "in $(B)/bench.json too"

$(B)/bin/bench: $(BENCH_SOURCES) $(wildcard benches/*.h) include/boxlite.h | library
	@mkdir -p $(B)/bin
	@$(CC) $(CFLAGS) -Iinclude $(BENCH_SOURCES) -o $@ -L$(B)/lib -lboxlite \
		-Wl,-rpath,'$$ORIGIN/../lib'

# What runs in the guests: the machine at the other end of the raw port, and commands of a box.
$(B)/bench/inside: benches/inside.c benches/bench.h | deps
	@mkdir -p $(B)/bench
	@$(CC) $(CFLAGS) -static $< -o $@

$(B)/bench/inside.initramfs: $(B)/bench/inside scripts/initramfs.sh
	@scripts/initramfs.sh $< $@

$(B)/bench/noop: benches/noop.c | deps
	@mkdir -p $(B)/bench
	@$(CC) $(CFLAGS) -static -nostdlib -fno-stack-protector -s $< -o $@

# --- tests ----------------------------------------------------------------------------------------

# One profile for library and tests, so that each dependency is compiled once.
test: test-deps build test-images
	@scripts/test.sh $(abspath $(B))

# What `make test` does a little of, in full; some minutes for each hundred kills.
torture: test-deps build test-images
	@scripts/torture.sh $(abspath $(B))

test-images: test-deps
	@scripts/test-images.sh $(B)/images

lint: deps
	cargo fmt --all --check
	cargo clippy --locked --release --workspace --all-targets -- -D warnings
	cargo clippy --locked --release -p boxlite --features failpoints --all-targets -- -D warnings
	cargo test --locked --release -q --test header

header:
	@BOXLITE_UPDATE_HEADER=1 cargo test --locked --release -q --test header

doc: test-deps
	@scripts/doc.sh $(B)/doxygen

clean:
	rm -rf $(B) target
