#!/bin/bash
# usage: build.sh
#
# Builds the addon against the libboxlite that pkg-config finds, and the headers of the node that
# is installed, so that nothing is downloaded but npm packages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

prefix=$(node -p 'require("node:path").resolve(process.execPath, "../..")')
if [[ ! -e $prefix/include/node/node_api.h ]]; then
    echo "build.sh: no headers in $prefix/include/node: install libnode-dev, or Node from nodejs.org" >&2
    exit 1
fi
npm ci --ignore-scripts --no-fund --no-audit --loglevel=error
npx --no-install node-gyp rebuild --nodedir="$prefix" --loglevel=warn "$@"
