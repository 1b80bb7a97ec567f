#!/bin/bash
# usage: install-deps.sh [run|test]
#
# Installs what is missing for `make run` (the default) or `make test`, from the distribution's
# own packages, and says why. Looks for commands and files, not for packages, so a tool installed
# by other means counts. Nothing missing: silent, and over in milliseconds. It never asks for a
# password and never changes the machine beyond `apt-get install`; with BOXLITE_INSTALL_DEPS=no it
# only says what is missing.
set -euo pipefail

group=${1:-run}
case $group in
run | test) ;;
*)
    echo "usage: ${0##*/} [run|test]" >&2
    exit 2
    ;;
esac

# mke2fs and its like are outside an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin

# group | command or file (several: any of them) | Debian package | what it is for
needs='
run|gcc|gcc|compiles the guest kernel and the C parts
run|g++|g++|compiles the C++ examples
run|/usr/include/x86_64-linux-gnu/sys/types.h /usr/include/sys/types.h|libc6-dev|C headers, and the static C library of the guest agent
run|make|make|drives the build
run|cmake|cmake|builds the C examples
run|pkg-config|pkg-config|finds libraries
run|bc|bc|kernel build
run|flex|flex|kernel build
run|bison|bison|kernel build
run|patch|patch|kernel build
run|xz|xz-utils|unpacks the kernel source
run|/usr/include/libelf.h /usr/include/x86_64-linux-gnu/libelf.h|libelf-dev|kernel build
run|/usr/src/linux-source-6.1.tar.xz|linux-source-6.1|source of the guest kernel
run|qemu-system-x86_64|qemu-system-x86|runs the boxes
run|qemu-img|qemu-utils|inspects and converts disks
run|mke2fs|e2fsprogs|checks and tunes disks
run|busybox|busybox-static|contents of the example image
test|debootstrap|debootstrap|makes the Debian test image
test|skopeo|skopeo|converts images between formats
test|umoci|umoci|unpacks images, to compare with ours
test|docker-registry|docker-registry|a real registry for the tests
test|valgrind|valgrind|memory checks of the C tests
test|/usr/include/uv.h|libuv1-dev|the example of boxes in a libuv loop
test|node|nodejs|runs the tests of the Node binding
test|npm|npm|packages of the Node binding
test|/usr/include/node/node_api.h /usr/local/include/node/node_api.h|libnode-dev|builds the Node binding
test|zstd|zstd|what archives are measured beside
test|sqlite3|sqlite3|makes the databases that tests spoil
test|python3|python3|makes calls from the header; builds the Node binding
test|doxygen|doxygen|the C API as pages, and a check that nothing in it is undocumented
'

# present ALTERNATIVES: is one of these commands or files there?
present() {
    local candidate
    for candidate in $1; do
        case $candidate in
        /*) if [[ -e $candidate ]]; then return 0; fi ;;
        *) if command -v "$candidate" >/dev/null; then return 0; fi ;;
        esac
    done
    return 1
}

say() { printf 'install-deps: %s\n' "$*" >&2; }

packages=() tools=() reasons=()
while IFS='|' read -r for_group what package reason; do
    if [[ -z $for_group || ($for_group == test && $group != test) ]]; then continue; fi
    # The kernel's source is not needed where another archive is named.
    if [[ $package == linux-source-6.1 && -n ${BOXLITE_KERNEL_SOURCE:-} ]]; then continue; fi
    if ! present "$what"; then
        packages+=("$package") tools+=("${what%% *}") reasons+=("$reason")
    fi
done <<<"$needs"

install_packages() {
    local as_root=() i
    if ! command -v apt-get >/dev/null; then
        say "missing: ${tools[*]}: install them with this system's package manager"
        return 1
    fi
    if [[ ${BOXLITE_INSTALL_DEPS:-yes} == no ]] || { ((EUID != 0)) && ! sudo -n true 2>/dev/null; }; then
        say "missing packages: as root, run: apt-get install --no-install-recommends ${packages[*]}"
        return 1
    fi
    if ((EUID != 0)); then as_root=(sudo -n); fi
    for i in "${!packages[@]}"; do say "installing ${packages[i]}: ${reasons[i]}"; done
    # apt's output is progress, and stdout belongs to callers that print results there.
    "${as_root[@]}" apt-get update -q >&2 || return 1
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${packages[@]}" >&2
}

status=0
if ((${#packages[@]} > 0)); then
    install_packages || status=1
fi
if ! command -v cargo >/dev/null && [[ ! -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
    say "missing: the Rust toolchain (cargo): see https://rustup.rs, or: curl -sSf https://sh.rustup.rs | sh -s -- -y"
    status=1
fi
exit "$status"
