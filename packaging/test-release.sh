#!/usr/bin/env bash
# Looks at what was released: the sums are right, the static program runs in an
# empty root, and no path of this machine is in any program.
#
#   test-release.sh DIRECTORY
#
# Of this machine's kind.
set -euo pipefail

out=${1:?usage: test-release.sh DIRECTORY}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "test-release: $1" >&2
    exit 1
}

# no_paths PROGRAM: neither of sources nor of where they were compiled.
# What tools keep in a home begins with a dot; the help names other files there.
no_paths() {
    local source path
    source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    for path in "$source" "${CARGO_HOME:-$HOME/.cargo}" "$(rustc --print sysroot)" "$HOME/."; do
        ! grep --text --quiet --fixed-strings "$path" "$1" || fail "$path is in $1"
    done
}

(cd "$out" && sha256sum --check --strict --quiet SHA256SUMS)

mkdir "$work/tarball" "$work/deb" "$work/rpm"
tar --extract --file "$out"/onionbraid-*-"$(uname -m)"-linux.tar.gz --directory "$work/tarball" --strip-components 1
! LC_ALL=C readelf --program-headers "$work/tarball/onionbraid" | grep INTERP ||
    fail "the program in the tarball is not static"
chroot "$work/tarball" /onionbraid --version >/dev/null || fail "the static program does not run"
no_paths "$work/tarball/onionbraid"

dpkg-deb --extract "$out"/onionbraid_*.deb "$work/deb"
no_paths "$work/deb/usr/bin/onionbraid"
echo "test-release: ok, $SECONDS s"
