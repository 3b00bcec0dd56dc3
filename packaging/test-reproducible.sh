#!/usr/bin/env bash
# Makes the release once more, from a clone of this commit in another directory, and
# compares every byte:
#
#   test-reproducible.sh DIRECTORY-OF-THE-RELEASE
#
# With ARCH, as release.sh has it, for those machines.
set -euo pipefail

out=$(realpath "${1:?usage: test-reproducible.sh DIRECTORY-OF-THE-RELEASE}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "test-reproducible: $1" >&2
    exit 1
}

git diff --quiet HEAD || fail "what is not committed is not in a clone"
git clone --quiet --no-local . "$work/elsewhere"
# What others have compiled is not used.
env --unset CARGO_TARGET_DIR "$work/elsewhere/packaging/release.sh" "$work/dist"
diff "$work/dist/SHA256SUMS" <(grep -F -f <(sed 's/^[^ ]* //' "$work/dist/SHA256SUMS") "$out/SHA256SUMS") ||
    fail "the same commit gives other bytes in another directory"
echo "test-reproducible: ok, $SECONDS s"
