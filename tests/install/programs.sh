#!/bin/bash
# usage: programs.sh BUILD
#
# Installs the library, moves it, and builds and runs programs against it as its users would: by
# pkg-config and by CMake, C and C++, shared and static.
set -euo pipefail
build=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The helpers are to be found from where the library is.
unset BOXLITE_LIBEXEC
export BOXLITE_HOME=$work/home
image=$build/images/busybox
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)

fail() { printf '%s\n' "$*" >&2; exit 1; }

# check PROGRAM [IMAGE]: it runs, and prints what it is to print.
check() {
    local output wanted=$version
    if (($# > 1)); then wanted+=$'\nhi'; fi
    output=$("$@") || fail "$1: failed"
    [[ $output == "$wanted" ]] || fail "$1 printed: $output"
    echo "${1#"$work"/}: passed"
}

# is_shared PROGRAM, is_static PROGRAM: how the library is linked.
is_shared() { readelf -d "$1" | grep -q 'NEEDED.*\[libboxlite\.so\.0\]' || fail "$1 is not shared"; }
is_static() { if readelf -d "$1" | grep -q libboxlite; then fail "$1 is not static"; fi; }

echo "== pkg-config, with a prefix that was moved, by the commands of the README"
make -C "$root" install B="$build" PREFIX=/opt/first DESTDIR="$work" >/dev/null
mv "$work/opt/first" "$work/moved"
export PKG_CONFIG_PATH=$work/moved/lib/pkgconfig
if pkg-config --cflags --libs --static boxlite | grep -q first; then fail "boxlite.pc has not moved"; fi
[[ $(pkg-config --modversion boxlite) == "$version" ]]
[[ $(readlink "$work/moved/lib/libboxlite.so.0") == "libboxlite.so.$version" ]]

mapfile -t commands < <(sed -n '/^```sh$/,/^```$/s/^\(gcc [^#]*\).*/\1/p' "$root/README.md")
rpath=-Wl,-rpath,$(pkg-config --variable=libdir boxlite)
mkdir "$work/moved/bin"
cd "$work/moved/bin"
cp "$here/consumer.c" first.c
cp "$here/consumer.cpp" first.cpp
eval "${commands[0]} -o c-shared $rpath"
eval "${commands[0]/gcc first.c/g++ first.cpp} -o cpp-shared $rpath"
eval "${commands[1]} -o c-static"
eval "${commands[1]/gcc first.c/g++ first.cpp} -o cpp-static"
# The linker remarks that libc's name service is not static.
eval "${commands[2]} -o $work/elsewhere" 2>"$work/log" || fail "$(cat "$work/log")"
is_shared c-shared
is_shared cpp-shared
is_static c-static
is_static cpp-static
is_static "$work/elsewhere"
check "$PWD/c-shared" "$image"
check "$PWD/c-static" "$image"
check "$PWD/cpp-shared"
check "$PWD/cpp-static"
HELPERS=$(pkg-config --variable=libexecdir boxlite) check "$work/elsewhere" "$image"

# The checks above would not notice helpers that are found by luck.
mv "$work/moved/libexec" "$work/hidden"
if (check "$PWD/c-shared") 2>"$work/log"; then fail "c-shared runs without helpers"; fi
grep -q "$work/moved/lib/libexec/boxlite" "$work/log" || fail "the error does not say where helpers are looked for"

echo "== CMake: find_package, with Debian's directory of libraries"
prefix=$work/debian
cmake -S "$root" -B "$work/library" -DBOXLITE_BUILD="$build" \
    -DCMAKE_INSTALL_LIBDIR=lib/x86_64-linux-gnu >/dev/null
cmake --install "$work/library" --prefix "$prefix" >/dev/null
cmake -S "$here" -B "$work/user" -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build "$work/user" >/dev/null
cp -r "$work/user/bin" "$prefix/"
for language in c cpp; do
    is_shared "$prefix/bin/$language-shared"
    is_static "$prefix/bin/$language-static"
    check "$prefix/bin/$language-shared"
    check "$prefix/bin/$language-static"
done
PKG_CONFIG_PATH=$prefix/lib/x86_64-linux-gnu/pkgconfig pkg-config --exists boxlite

echo "== CMake: as a part of another project"
cmake -S "$here" -B "$work/part" -DBOXLITE_SOURCE="$root" -DBOXLITE_BUILD="$build" >/dev/null
cmake --build "$work/part" --target c-shared >"$work/log" 2>&1 || fail "$(cat "$work/log")"
is_shared "$work/part/bin/c-shared"
check "$work/part/bin/c-shared"
