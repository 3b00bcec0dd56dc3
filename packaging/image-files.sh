#!/usr/bin/env bash
# Lays out what packaging/Containerfile copies:
#
#   image-files.sh STATIC-PROGRAM DIRECTORY
set -euo pipefail

program=${1:?usage: image-files.sh STATIC-PROGRAM DIRECTORY}
files=${2:?usage: image-files.sh STATIC-PROGRAM DIRECTORY}
here="$(dirname "${BASH_SOURCE[0]}")"

if LC_ALL=C readelf --program-headers "$program" | grep INTERP >/dev/null; then
    echo "image-files: $program is not static, it would find no C library" >&2
    exit 1
fi
rm -rf "$files"
umask 022
mkdir -p "$files"/system/{etc/onionbraid,run/secrets,srv,tmp,usr/bin,usr/share/licenses/onionbraid,var/lib}
install -m 755 "$program" "$files/system/usr/bin/onionbraid"
install -m 644 "$here"/../LICENSE-* "$here"/licences/* "$files/system/usr/share/licenses/onionbraid/"
install -d -m 700 "$files/volume/onionbraid" "$files"/volume/onionbraid/{state,cache}
# Complete, so that the C library in the program never looks for a module of
# another one, and engines that would make half of them leave them alone.
printf '%s\n' 'root:x:0:0::/:/sbin/nologin' \
    'onionbraid:x:65532:65532::/var/lib/onionbraid:/sbin/nologin' >"$files/system/etc/passwd"
printf '%s\n' 'root:x:0:' 'onionbraid:x:65532:' >"$files/system/etc/group"
printf '%s\n' 'passwd: files' 'group: files' 'hosts: files dns' >"$files/system/etc/nsswitch.conf"
