#!/bin/sh
# Everything that can be checked without a browser: types, tests, sizes, the bundle, the package.
set -eu
cd "$(dirname "$0")"

npm ci --no-audit --no-fund --ignore-scripts
npm run check
npm test
node build.mjs --check

# What users of npm would get: the sources and their types, and nothing that is missing.
pack=$(mktemp -d)
trap 'rm -rf "$pack"' EXIT
npm pack --silent --pack-destination "$pack" >/dev/null
tar -xzf "$pack"/session-resume-*.tgz -C "$pack"
mkdir -p "$pack/user/node_modules"
mv "$pack/package" "$pack/user/node_modules/session-resume"
cp test/user.ts "$pack/user/user.mts"
tsc=$PWD/node_modules/.bin/tsc
cd "$pack/user"
"$tsc" --noEmit --strict --types '' --module nodenext --target es2022 --lib es2022,dom user.mts
