#!/bin/bash
# usage: check-spec.sh
#
# Checks that what docs/SPECIFICATION.md names as holding its promises exists: each `path` is a file,
# each other `name` after it stands in that file. A promise that nothing holds says "not yet".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

page=docs/SPECIFICATION.md
promises=0 held=0 wrong=0

complain() {
    printf '%s: %s: %s\n' "$page" "$promise" "$1" >&2
    wrong=$((wrong + 1))
}

while IFS='|' read -r _ promise holders _; do
    promise=${promise## } promise=${promise%% }
    promises=$((promises + 1))
    if [[ $holders == ' not yet ' ]]; then continue; fi
    held=$((held + 1))
    file=
    while read -r name; do
        if [[ $name == */* && $name != *' '* ]]; then
            file=$name
            [[ -f $file ]] || complain "there is no $file"
        elif [[ -z $file ]]; then
            complain "'$name' is in no file"
        else
            grep -qF -- "$name" "$file" || complain "'$name' is not in $file"
        fi
    done < <(grep -o '`[^`]*`' <<<"$holders" | tr -d '`')
    [[ -n $file ]] || complain "nothing holds it: name it, or say 'not yet'"
done < <(grep '^| ' "$page" | grep -v '^| promise |')

((promises > 0)) || { echo "$page: no promises were found: has the format changed?" >&2; exit 1; }
echo "$promises promises, $held held by tests or figures, $((promises - held)) not yet"
((wrong == 0))
