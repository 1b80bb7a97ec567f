#!/bin/bash
# usage: test-images.sh OUTDIR [NAME…]
#
# Makes OCI images from Debian packages, for the examples and the tests, and links them into
# OUTDIR. They are kept in ${XDG_CACHE_HOME:-~/.cache}/boxlite/images/<hash>/ and made once.
#
#   busybox         OCI layout directory: Debian's static busybox and a few files of /etc
#   busybox.docker  the same as a docker-archive tar file (as `docker save` writes)
#   busybox.oci     the same as an oci-archive tar file
#   python          OCI layout directory: Debian minbase with Python, gcc and git. Making it needs
#                   root (debootstrap); an ordinary user gets it only from the cache, else it is
#                   skipped, which is said and is not an error
#
# No NAME means all. Equal packages give equal bytes: owners, times and order are fixed.
set -euo pipefail
umask 022

all=(busybox busybox.docker busybox.oci python)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/boxlite/images
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'images: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
need() { command -v "$1" >/dev/null || die "$1 is missing: run scripts/install-deps.sh test"; }

# --- OCI layout ------------------------------------------------------------------------------

# store_blob LAYOUT FILE: moves FILE into the layout, prints "digest size".
store_blob() {
    local digest size
    digest=$(sha256sum <"$2" | cut -d ' ' -f 1)
    size=$(stat -c %s "$2")
    mv "$2" "$1/blobs/sha256/$digest"
    printf 'sha256:%s %s\n' "$digest" "$size"
}

# write_layout LAYOUT LAYER_TAR CONFIG_JSON: a layout of one gzip layer, tagged "latest".
# Formats: the OCI image specification 1.0.
write_layout() {
    local layout=$1 tar=$2 config=$3 diff_id digest size layer config_ref manifest_ref
    mkdir -p "$layout/blobs/sha256"
    diff_id=sha256:$(sha256sum <"$tar" | cut -d ' ' -f 1)
    gzip -n -1 <"$tar" >"$tar.gz"
    rm "$tar"
    local kind=application/vnd.oci.image
    read -r digest size < <(store_blob "$layout" "$tar.gz")
    layer='{"mediaType":"'$kind'.layer.v1.tar+gzip","digest":"'$digest'","size":'$size'}'
    printf '{"created":"1970-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":["%s"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"test-images.sh"}]}' \
        "$config" "$diff_id" >"$layout/config"
    read -r digest size < <(store_blob "$layout" "$layout/config")
    config_ref='{"mediaType":"'$kind'.config.v1+json","digest":"'$digest'","size":'$size'}'
    printf '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":%s,"layers":[%s]}' \
        "$kind" "$config_ref" "$layer" >"$layout/manifest"
    read -r digest size < <(store_blob "$layout" "$layout/manifest")
    manifest_ref='{"mediaType":"'$kind'.manifest.v1+json","digest":"'$digest'","size":'$size',"annotations":{"org.opencontainers.image.ref.name":"latest"},"platform":{"architecture":"amd64","os":"linux"}}'
    printf '{"schemaVersion":2,"mediaType":"%s.index.v1+json","manifests":[%s]}' "$kind" "$manifest_ref" >"$layout/index.json"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
}

# --- Images: make_NAME WORK RESULT leaves the finished image at RESULT ---------------------------

busybox_binary() {
    local candidate
    for candidate in /usr/bin/busybox /bin/busybox; do
        if [[ -x $candidate ]] && ! ldd "$candidate" >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "no static busybox: install the package busybox-static"
}

make_busybox() {
    local work=$1 root=$1/root busybox applet
    busybox=$(busybox_binary)
    mkdir -p "$root"/{bin,dev,etc,home/app,proc,root,run,sys,tmp,usr,var/tmp}
    cp "$busybox" "$root/bin/busybox"
    chmod 755 "$root/bin/busybox"
    while IFS= read -r applet; do
        if [[ $applet != busybox ]]; then ln -s busybox "$root/bin/$applet"; fi
    done < <("$busybox" --list)
    ln -s ../bin "$root/usr/bin"
    ln -s bin "$root/sbin"
    chmod 1777 "$root/tmp" "$root/var/tmp"
    chmod 700 "$root/root"
    printf '%s\n' root:x:0:0:root:/root:/bin/sh app:x:1000:1000:app:/home/app:/bin/sh \
        nobody:x:65534:65534:nobody:/nonexistent:/bin/false >"$root/etc/passwd"
    printf '%s\n' root:x:0: extra:x:2000:app app:x:1000: nogroup:x:65534: >"$root/etc/group"
    local tar=(tar -C "$root" --format=gnu --sort=name --mtime=@0 --numeric-owner)
    "${tar[@]}" --owner=0 --group=0 --exclude=./home/app -cf "$work/layer" .
    "${tar[@]}" --owner=1000 --group=1000 -rf "$work/layer" ./home/app
    write_layout "$2" "$work/layer" \
        '{"Cmd":["sh"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}'
}

# convert FORMAT WORK RESULT: the busybox layout as one tar file, by skopeo.
convert() {
    need skopeo
    provide busybox
    TMPDIR=$2 skopeo --insecure-policy copy -q "oci:$(path_of busybox):latest" "$1:$3:busybox:latest" >&2
}
make_busybox.docker() { convert docker-archive "$@"; }
make_busybox.oci() { convert oci-archive "$@"; }

python_packages=python3,gcc,libc6-dev,git,ca-certificates,procps
python_suite=bookworm

# The mirror that this machine's apt already uses for Debian.
mirror() {
    local uri codename component found=''
    while read -r uri codename component; do
        if [[ $codename == "$python_suite" && $component == main && -z $found ]]; then found=$uri; fi
    done < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages')
    [[ -n $found ]] || die "apt on this machine has no source for Debian $python_suite"
    printf '%s\n' "$found"
}

make_python() {
    local work=$1 root=$1/root from
    need debootstrap
    from=$(mirror)
    http_proxy=${http_proxy:-$(apt-config dump --format '%v' Acquire::http::Proxy)}
    if [[ -n $http_proxy ]]; then export http_proxy; fi
    say "python: debootstrap $python_suite from $from (some minutes)"
    debootstrap --variant=minbase --include="$python_packages" "$python_suite" "$root" "$from" >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; die "debootstrap failed"; }
    rm -rf "$root"/usr/share/{doc,man,info,locale,lintian}/* "$root"/var/cache/apt/* "$root"/var/log/* \
        "$root"/var/lib/apt/lists/* "$root"/debootstrap "$root"/etc/{machine-id,hostname,resolv.conf}
    find "$root" -name __pycache__ -type d -prune -exec rm -rf {} +
    find "$root/dev" -mindepth 1 -delete
    tar -C "$root" --format=gnu --sort=name --mtime=@0 --numeric-owner -cf "$work/layer" .
    write_layout "$2" "$work/layer" \
        '{"Cmd":["bash"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","LANG=C.UTF-8"]}'
}

# --- Cache -----------------------------------------------------------------------------------------

# identity NAME: what shapes the image.
identity() {
    {
        printf '%s\n' "$1"
        declare -f write_layout store_blob
        case $1 in
        busybox*) declare -f make_busybox convert; sha256sum "$(busybox_binary)" ;;
        python) declare -f make_python; printf '%s\n' "$python_packages $python_suite" ;;
        esac
    } | sha256sum | cut -c 1-16
}

path_of() { printf '%s/%s/image\n' "$cache" "$(identity "$1")"; }

# provide NAME: makes the image unless the cache has it; the lock is held by the caller.
provide() {
    local name=$1 result work
    result=$(path_of "$name")
    if [[ -e $result ]]; then return; fi
    say "making $name"
    work=$(mktemp -d "$cache/work.XXXXXX")
    works+=("$work")
    mkdir "$work/result"
    "make_$name" "$work" "$work/result/image"
    rm -rf "${result%/image}"
    mv -T "$work/result" "${result%/image}"
    rm -rf "$work"
}

main() {
    if [[ $# -lt 1 ]]; then
        die "usage: ${0##*/} OUTDIR [NAME…]   names: ${all[*]}"
    fi
    local out=$1 name names
    shift
    names=("$@")
    if [[ ${#names[@]} -eq 0 ]]; then names=("${all[@]}"); fi
    for name in "${names[@]}"; do
        [[ " ${all[*]} " == *" $name "* ]] || die "no image is called $name; there are: ${all[*]}"
    done

    mkdir -p "$cache" "$out"
    works=()
    trap 'if ((${#works[@]} > 0)); then rm -rf "${works[@]}"; fi' EXIT
    exec 9>"$cache/lock"
    flock -n 9 || { say "another program is making images, waiting for it"; flock 9; }
    # Under the lock, whatever is called work belongs to a run that was killed.
    rm -rf "$cache"/work.*
    for name in "${names[@]}"; do
        if [[ $name == python && $EUID -ne 0 && ! -e $(path_of python) ]]; then
            say "python: skipped: making it needs root and it is not in $cache"
            rm -f "$out/$name"
            continue
        fi
        provide "$name"
        ln -sfn "$(path_of "$name")" "$out/$name"
    done
}

main "$@"
