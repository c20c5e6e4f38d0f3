#!/bin/sh
# Checks that the public API keeps what the last release promised: cargo-semver-checks, against the newest tag `v<version>`.
#
# Says why on standard error and exits with 3 where there is nothing to compare with, or no tool.
set -eu
cd "$(dirname "$0")/.."

release=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null) || {
    echo "no release is tagged yet" >&2
    exit 3
}
command -v cargo-semver-checks > /dev/null || {
    echo "cargo-semver-checks is missing (cargo install cargo-semver-checks)" >&2
    exit 3
}
for crate in "$@"; do
    # A crate that the release did not have promises nothing yet.
    path=$(cargo pkgid -p "$crate" | sed 's/^path+file:\/\///; s/#.*//')
    git cat-file -e "$release:${path#"$PWD"/}/Cargo.toml" 2>/dev/null || continue
    echo "$crate since $release"
    cargo semver-checks --quiet --package "$crate" --baseline-rev "$release"
done
