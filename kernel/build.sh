#!/bin/bash
# usage: kernel/build.sh
#
# Builds the guest kernel from Debian's linux-source-6.1 and prints the path of its vmlinux, the
# only thing on stdout. The result is kept in ${XDG_CACHE_HOME:-~/.cache}/boxlite/kernel/<hash>/;
# a second call costs milliseconds. The hash covers all that shapes the kernel: the fragment, the
# patches, the functions below that configure and compile, the source package and the compiler.
# Two callers build once: the second waits. A build that is killed leaves nothing that a later
# call would take for a kernel.
#
# Environment: BOXLITE_KERNEL_SOURCE  another source archive (tar.xz) than Debian's
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_archive=${BOXLITE_KERNEL_SOURCE:-/usr/src/linux-source-6.1.tar.xz}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/boxlite/kernel
# How many files the configuration compiles, for the progress display only.
expected_objects=1300

say() { printf 'kernel: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

check_host() {
    [[ $(uname -m) == x86_64 ]] || die "only x86_64 hosts can build the guest kernel, this is $(uname -m)"
    [[ -r $source_archive ]] || die "$source_archive is missing: install the package linux-source-6.1"
    local tool missing=()
    for tool in gcc make flex bison bc xz patch; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [[ -e /usr/include/libelf.h || -e /usr/include/x86_64-linux-gnu/libelf.h ]] || missing+=(libelf-dev)
    ((${#missing[@]} == 0)) || die "missing: ${missing[*]}: run scripts/install-deps.sh"
}

# What the source is: its package's version; for an archive from elsewhere, its contents.
source_identity() {
    local version
    if version=$(dpkg-query -W -f '${Version}' linux-source-6.1 2>/dev/null) && [[ -z ${BOXLITE_KERNEL_SOURCE:-} ]]; then
        printf 'linux-source-6.1 %s\n' "$version"
    else
        sha256sum <"$source_archive"
    fi
}

identity() {
    {
        cat "$here/config"
        cat "$here"/patches/*.patch
        declare -f unpack configure compile kernel_make
        source_identity
        gcc --version | head -n 1
        ld --version | head -n 1
    } | sha256sum | cut -c 1-16
}

# kernel_make ARGS...: make, shielded from the caller's environment (a surrounding make's flags,
# CROSS_COMPILE, CFLAGS), with a fixed date and place so that equal input gives equal bytes.
# memset and memcpy are called, not inlined as `rep`, of which a translator makes three blocks.
kernel_make() {
    env -i PATH="$PATH" HOME="$HOME" LC_ALL=C ARCH=x86 \
        KBUILD_BUILD_TIMESTAMP="$(date -u -r "$source_archive")" KBUILD_BUILD_VERSION=1 \
        KCFLAGS="-mmemset-strategy=libcall:-1:noalign -mmemcpy-strategy=libcall:-1:noalign" \
        KBUILD_BUILD_USER=boxlite KBUILD_BUILD_HOST=boxlite \
        nice make --no-print-directory "$@"
}

# unpack TREE: the source without what this configuration never reads, and our patches on it.
unpack() {
    mkdir "$1"
    tar -C "$1" --strip-components=1 -xJf "$source_archive" --wildcards \
        --exclude='*/Documentation/*/*' --exclude='*/tools/testing/*' \
        --exclude='*/arch/[!x]*/*.[chS]' --exclude='*.dts' --exclude='*.dtsi' \
        --exclude='*/drivers/gpu/*.[ch]' --exclude='*/sound/*.[ch]' --exclude='*/drivers/media/*.[ch]'
    local patch
    for patch in "$here"/patches/*.patch; do
        patch -d "$1" -p1 --silent --forward <"$patch" || die "$patch does not apply to $source_archive"
    done
}

configure() {
    cp "$here/config" "$1/fragment"
    kernel_make -C "$1" -s KCONFIG_ALLCONFIG=fragment allnoconfig
    check_config "$1"
}

# Kconfig drops silently what a dependency forbids. Here that is an error.
check_config() {
    local lost
    lost=$(awk '
        NR == FNR { if (/^CONFIG_/) { i = index($0, "="); have[substr($0, 1, i - 1)] = substr($0, i + 1) } next }
        /^CONFIG_/ { i = index($0, "="); k = substr($0, 1, i - 1); v = substr($0, i + 1)
                     if (have[k] != v) print "  " $0 "  (became " (k in have ? have[k] : "unset") ")" }
        /^# CONFIG_[A-Z0-9_]* is not set$/ { if ($2 in have) print "  " $2 " off  (became " have[$2] ")" }
    ' "$1/.config" "$here/config")
    [[ -z $lost ]] || die "options of kernel/config that the final configuration does not have:"$'\n'"$lost"
}

# show_progress LOG: make's output goes to LOG; stderr gets a counter, on one line of a terminal,
# as a line every ten seconds elsewhere.
show_progress() {
    local line count=0 started=$SECONDS shown=-10 every=10 before='' after=$'\n'
    if [[ -t 2 ]]; then every=1 before=$'\r' after=''; fi
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$1"
        case $line in '  CC '* | '  AS '*) count=$((count + 1)) ;; esac
        if ((SECONDS - shown >= every)); then
            shown=$SECONDS
            printf '%skernel: compiled %d of about %d files, %d s%s' \
                "$before" "$count" "$expected_objects" $((SECONDS - started)) "$after" >&2
        fi
    done
    if [[ -t 2 ]]; then printf '\n' >&2; fi
}

# compile TREE RESULT. The compilers run as a job of their own: a signal to this script is acted on
# at once, and ends them all.
compile() {
    local log=$1/build.log
    set -m
    kernel_make -C "$1" -j"$(nproc)" vmlinux 2>&1 | show_progress "$log" &
    compilers=$(jobs -p %+)
    set +m
    wait $! || {
        grep -v '^  [A-Z]* ' "$log" | tail -n 40 >&2
        die "the compilation failed"
    }
    compilers=''
    [[ -f $1/vmlinux ]] || die "the compilation made no vmlinux"
    mkdir "$2"
    strip -o "$2/vmlinux" "$1/vmlinux"
    cp "$1/.config" "$2/config"
    cp "$1/System.map" "$2/System.map"
}

work='' compilers=''
clean_up() {
    if [[ -n $compilers ]]; then
        kill -- "-$compilers" 2>/dev/null || true
        wait
    fi
    if [[ -n $work ]]; then rm -rf "$work"; fi
}

build() {
    local result=$1
    mkdir -p "$cache"
    # What follows inherits the lock, so the next builder also waits for the compilers of a
    # killed one to end.
    exec 9>"$cache/lock"
    if ! flock -n 9; then
        say "another build is running, waiting for it"
        flock 9
        if [[ -f $result/vmlinux ]]; then return; fi
    fi
    rm -rf "$cache"/work.*
    work=$(mktemp -d "$cache/work.XXXXXX")
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    say "building from $source_archive, once for this configuration (some minutes)"
    unpack "$work/tree"
    configure "$work/tree"
    compile "$work/tree" "$work/result"
    sync "$work/result"/*
    mv -T "$work/result" "$result"
    sync "$cache"
    say "done, $(stat -c %s "$result/vmlinux") bytes"
}

check_host
result=$cache/$(identity)
if [[ ! -f $result/vmlinux ]]; then
    build "$result"
fi
printf '%s\n' "$result/vmlinux"
