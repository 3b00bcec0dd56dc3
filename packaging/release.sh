#!/usr/bin/env bash
# Makes what is released, the same bytes from the same commit in whatever
# directory and at whatever time:
#
#   release.sh DIRECTORY [PART...]
#
#   tarball   the static program with documentation
#   image     a container image of the static program
#   packages  a Debian package and an RPM, which use the system's C library
#
# All parts by default, in the place of what is there of another version; and the
# sums of everything that is in the directory then. With ARCH=arm64 the tarball and the
# image are for that, made by Debian's gcc-aarch64-linux-gnu; packages are made on a
# machine of their own kind.
set -euo pipefail
umask 022
export LC_ALL=C TZ=UTC

out=$(realpath --canonicalize-missing "${1:?usage: release.sh DIRECTORY [PART...]}")
shift
target=$(rustc -vV | sed -n 's/^host: //p')
case "${ARCH:-}" in
    '') [ "$#" -gt 0 ] || set -- tarball image packages ;;
    arm64) target=aarch64-unknown-linux-gnu && [ "$#" -gt 0 ] || set -- tarball image ;;
    *) echo "release: ARCH is arm64, or not set for this machine's" >&2 && exit 2 ;;
esac
export TARGET=$target
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
cargo=${CARGO:-cargo}
metadata=$("$cargo" metadata --no-deps --format-version 1 --locked)
version=$(jq -r '.packages[] | select(.name == "onionbraid") | .version' <<<"$metadata")
name="onionbraid-$version-${target%%-*}-linux"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

static() {
    [ -e "$work/static" ] || packaging/build-release.sh static "$work/static"
}

tarball() {
    static
    rm -f "$out"/onionbraid-*-"${target%%-*}"-linux.tar.gz
    local part
    mkdir "$work/$name"
    cp README.md LICENSE-* CHANGELOG.md arti.toml.example "$work/$name/"
    cp -r docs "$work/$name/"
    for part in arti.schema.json completions licences man systemd; do
        cp -r "packaging/$part" "$work/$name/"
    done
    install -m 755 "$work/static" "$work/$name/onionbraid"
    tar --create --directory "$work" --format ustar --sort name --mtime "@$SOURCE_DATE_EPOCH" \
        --owner 0 --group 0 --numeric-owner --mode u=rwX,go=rX "$name" |
        gzip -n9 >"$out/$name.tar.gz"
}

image() {
    static
    rm -f "$out"/onionbraid-*-"${target%%-*}"-linux-image.tar.gz
    packaging/image.sh "$work/static" "$version" "$out/$name-image.tar.gz"
}

packages() {
    rm -f "$out"/onionbraid*.{deb,rpm}
    # They take the program from where Cargo has put it.
    packaging/build-release.sh dynamic "$work/dynamic"
    "$cargo" deb --no-build --locked --target "$target" --output "$out/"
    "$cargo" generate-rpm --target "$target" --output "$out/"
}

for part in "$@"; do
    case "$part" in
        tarball | image | packages) "$part" ;;
        *) echo "release: there is no part $part" >&2 && exit 2 ;;
    esac
done
(cd "$out" && find . -maxdepth 1 -name 'onionbraid*' -printf '%P\n' | sort | xargs sha256sum >SHA256SUMS)
