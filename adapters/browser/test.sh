#!/bin/sh
# Everything that can be checked without a browser: types, tests, sizes, the bundle, the package (test/package.test.mjs).
set -eu
cd "$(dirname "$0")"

npm ci --no-audit --no-fund --ignore-scripts
npm run check
npm test
node build.mjs --check
