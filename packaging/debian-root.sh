#!/usr/bin/env bash
# Lays out a root file system of Debian's with nothing but its base, for the tests that
# install packages:
#
#   debian-root.sh DIRECTORY
#
# Debootstrap takes minutes: what it makes is kept for a day as an archive below Cargo's
# target directory. Needs root.
set -euo pipefail

root=$(realpath --canonicalize-missing "${1:?usage: debian-root.sh DIRECTORY}")
# What debootstrap mounts and leaves is so for this alone.
[ -n "${DEBIAN_ROOT_UNSHARED:-}" ] || DEBIAN_ROOT_UNSHARED=1 exec unshare --mount -- "$0" "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
archive="$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")/debian-root.tar"

if [ -z "$(find "$archive" -mmin -1440 2>/dev/null)" ]; then
    work=$(mktemp -d)
    unmount() {
        while umount "$work/root/proc" 2>/dev/null; do :; done
    }
    trap 'unmount; rm -rf --one-file-system "$work" "$archive.new"' EXIT
    debootstrap --variant=minbase bookworm "$work/root" >"$work/debootstrap.log" 2>&1 || {
        echo "debian-root: debootstrap: $(tail -1 "$work/debootstrap.log")" >&2
        exit 1
    }
    unmount
    # Where packages come from on this machine, they come from there as well.
    cp -a /etc/apt/apt.conf.d/. "$work/root/etc/apt/apt.conf.d/"
    rm -f "$work/root"/var/cache/apt/archives/*.deb
    mkdir -p "$(dirname "$archive")"
    tar --create --numeric-owner --directory "$work/root" --file "$archive.new" .
    mv "$archive.new" "$archive"
fi
mkdir -p "$root"
tar --extract --numeric-owner --same-permissions --directory "$root" --file "$archive"
