#!/bin/bash
# usage: doc.sh [OUTPUT]
#
# Makes HTML pages of the C API in OUTPUT/html (build/doxygen unless named). Fails if anything in the
# header has no comment, if a line of it is too long, if the documentation names what it has not, or
# if a link of it leads nowhere.
set -euo pipefail
output=$(realpath -m "${1:-$(dirname "${BASH_SOURCE[0]}")/../build/doxygen}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mkdir -p "$output"
{
    cat docs/Doxyfile
    printf 'OUTPUT_DIRECTORY = "%s"\n' "$output"
} | doxygen -

# What doxygen does not look at: the values of enumerations, and the width of a line.
awk '
    FNR > 1 && /^ +BOXLITE_[A-Z_]+ = / && before !~ /^ +\/\/\// {
        printf "%s:%d: no comment: %s\n", FILENAME, FNR, $1
        failed = 1
    }
    length > 100 {
        printf "%s:%d: a line of %d characters\n", FILENAME, FNR, length
        failed = 1
    }
    { before = $0 }
    END { exit failed }
' include/boxlite.h >&2

# Names that comments and pages use, but for those that are declared, the environment's, and the one
# that stands for none.
known='BOXLITE_(HOME|LIBEXEC|ACCELERATOR|QEMU|FAILPOINT|UNKNOWN)'
pages=(include/boxlite.h README.md docs/*.md)
unknown=$(comm -23 \
    <(grep -ohE '\b(boxlite_[a-z0-9_]+|BOXLITE_[A-Z0-9_]+)\b' "${pages[@]}" | sort -u) \
    <(grep -v '^ *//' include/boxlite.h | grep -ohE '\b(boxlite_[a-z0-9_]+|BOXLITE_[A-Z0-9_]+)\b' | sort -u) |
    grep -vxE "$known" || true)
if [[ -n $unknown ]]; then
    printf 'named, but not in the header: %s\n' $unknown >&2
    exit 1
fi

# Links that lead nowhere.
broken=0
for page in README.md docs/*.md; do
    while read -r link; do
        if [[ $link == *://* || -e $(dirname "$page")/$link ]]; then continue; fi
        printf '%s: there is no %s\n' "$page" "$link" >&2
        broken=$((broken + 1))
    done < <(grep -oE '\]\([^)#]+' "$page" | cut -c3-)
done
((broken == 0))
