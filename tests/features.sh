#!/bin/sh
# Checks that features only add: each crate builds, without a warning, with none of its features and with each alone; with
# LONG=1 with all, too, which is nearly what the workspace's tests are built with.
#
# Plain cargo, no tools.
set -eu
cd "$(dirname "$0")/.."

# A warning is an error: what nobody uses without a feature belongs to the feature.
check() {
    echo "cargo check -p $*"
    said=$(cargo check --quiet --locked -p "$@" 2>&1) || { printf '%s\n' "$said" >&2; exit 1; }
    if [ -n "$said" ]; then
        printf '%s\n' "$said" >&2
        exit 1
    fi
}

for crate in session-resume-proto session-resume session-resume-axum session-resume-warp session-resume-redb session-resume-redis \
    session-resume-browser session-resume-client session-resume-monitor session-resume-testkit; do
    check "$crate" --no-default-features
    [ -z "${LONG:-}" ] || check "$crate" --all-features
done
for feature in axum console http listen tungstenite http2 server; do
    check session-resume --no-default-features --features "$feature"
done
check session-resume-axum --no-default-features --features http2
check session-resume-axum --no-default-features --features server
check session-resume-axum --no-default-features --features monitor
check session-resume-warp --no-default-features --features server
check session-resume-warp --no-default-features --features monitor
check session-resume-browser --no-default-features --features axum
check session-resume-browser --no-default-features --features warp
check session-resume-client --no-default-features --features http
check session-resume-client --no-default-features --features rustls-tls-webpki-roots

# As examples/dashboard/compose.yaml builds it.
check dashboard

# A feature that is added later must be added here, too.
known='adapters/axum/Cargo.toml default
adapters/axum/Cargo.toml http2
adapters/axum/Cargo.toml monitor
adapters/axum/Cargo.toml server
adapters/browser/Cargo.toml axum
adapters/browser/Cargo.toml warp
adapters/client/Cargo.toml http
adapters/client/Cargo.toml rustls-tls-webpki-roots
adapters/redis/Cargo.toml cluster
adapters/redis/Cargo.toml sentinel
adapters/redis/Cargo.toml tls
adapters/testkit/Cargo.toml tcp
adapters/warp/Cargo.toml default
adapters/warp/Cargo.toml monitor
adapters/warp/Cargo.toml server
core/resume/Cargo.toml axum
core/resume/Cargo.toml console
core/resume/Cargo.toml http
core/resume/Cargo.toml http2
core/resume/Cargo.toml listen
core/resume/Cargo.toml server
core/resume/Cargo.toml tungstenite'
found=$(awk '/^\[/ { inside = ($0 == "[features]") } inside && /^[a-z]/ { print FILENAME, $1 }' \
    core/*/Cargo.toml adapters/*/Cargo.toml | sort)
if [ "$found" != "$known" ]; then
    printf 'features that this script does not know, or no longer there:\n%s\n' "$found" >&2
    exit 1
fi
