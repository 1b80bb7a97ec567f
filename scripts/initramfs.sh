#!/bin/bash
# usage: initramfs.sh AGENT_BINARY OUT
#
# Writes the initial file system of a box's machine: an uncompressed newc cpio archive that holds
# the agent as /init and nothing else (no shell, no libraries). /dev/console comes from the
# kernel's own built-in archive, which is unpacked first. Same agent, same bytes: owner 0:0, time
# zero, fixed inode numbers. Needs no root. OUT is replaced atomically, and only when it changes,
# so that make does not rebuild what depends on it.
set -euo pipefail

if [[ $# -ne 2 ]]; then
    echo "usage: ${0##*/} AGENT_BINARY OUT" >&2
    exit 2
fi
agent=$1 out=$2

if [[ ! -f $agent ]]; then
    echo "${0##*/}: $agent: no such agent binary; build it first" >&2
    exit 1
fi

# entry INODE MODE LINKS SIZE NAME: one newc header, its name, padded to four bytes.
entry() {
    local inode=$1 mode=$2 links=$3 size=$4 name=$5
    # magic ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    printf '070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x' \
        "$inode" "$mode" 0 0 "$links" 0 "$size" 0 0 0 0 $((${#name} + 1)) 0
    printf '%s\0' "$name"
    pad $((110 + ${#name} + 1))
}

# pad LENGTH: the zero bytes that bring LENGTH to a multiple of four.
pad() {
    local zeros=$(((4 - $1 % 4) % 4))
    if ((zeros > 0)); then head -c "$zeros" /dev/zero; fi
}

mkdir -p "$(dirname "$out")"
temporary=$(mktemp "$out.XXXXXX")
trap 'rm -f "$temporary"' EXIT

size=$(stat -L -c %s "$agent")
{
    entry 1 $((8#100755)) 1 "$size" init
    cat "$agent"
    pad "$size"
    entry 0 0 1 0 'TRAILER!!!'
} >"$temporary"
chmod 644 "$temporary"

if ! cmp -s "$temporary" "$out"; then
    mv -f "$temporary" "$out"
fi
