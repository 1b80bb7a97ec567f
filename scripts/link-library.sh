#!/bin/bash
# usage: link-library.sh ARCHIVE OUTDIR
#
# Makes the libraries that are installed, OUTDIR/libboxlite.a and OUTDIR/libboxlite.so with its
# soname's link, from the static library that cargo built. Neither is cargo's own:
#
# - rustc passes the linker a version script for a shared library, and GNU ld refuses a second one,
#   so it could have no versioned symbols.
# - cargo's static library shows the whole world its SQLite, zstd and Rust runtime, which clash with
#   those of the program it is linked into.
#
# So what the header's functions need is linked into one object, whose other symbols become local.
# Both libraries are that object.
set -euo pipefail

if [[ $# -ne 2 ]]; then
    echo "usage: ${0##*/} ARCHIVE OUTDIR" >&2
    exit 2
fi
archive=$1 out=$2
root=$(dirname "${BASH_SOURCE[0]}")/..
cc=${CC:-gcc}

version=$(sed -n 's/^#define BOXLITE_VERSION "\(.*\)"$/\1/p' "$root/include/boxlite.h")
soname=libboxlite.so.0

mkdir -p "$out"
work=$(mktemp -d "$out/.link.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The roots of everything: what is declared as a function.
"$cc" -E -P "$root/include/boxlite.h" | grep -oE '\bboxlite_\w+ *\(' | sed 's/ *($//; s/^/-u /' >"$work/roots"

# Section groups stand for "one definition of many"; local symbols have no such rivals.
ld -r --gc-sections --force-group-allocation "@$work/roots" "$archive" -o "$work/all.o"

# Sections of bitcode are the Rust standard library's, for link-time optimisation by rustc only.
objcopy --strip-unneeded --remove-section=.llvmbc --remove-section=.llvmcmd \
    --wildcard --keep-global-symbol='boxlite_*' "$work/all.o" "$work/boxlite.o"

ar rcs "$work/libboxlite.a" "$work/boxlite.o"

# nodelete: its threads, and the destructors of thread-locals, must find their code after a dlclose.
options=(-soname "$soname" --version-script="$root/scripts/libboxlite.map" --gc-sections --as-needed
    -O1 -z nodelete -z relro -z now -z noexecstack -z defs)
"$cc" -shared -s "${options[@]/#/-Wl,}" "$work/boxlite.o" -lm -o "$work/libboxlite.so.$version"

# Never written in place: a program may be running from the old ones.
rm -f "$out"/libboxlite.so*
mv "$work"/libboxlite.* "$out/"
ln -s "libboxlite.so.$version" "$out/$soname"
ln -s "$soname" "$out/libboxlite.so"
