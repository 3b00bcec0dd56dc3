#!/usr/bin/env bash
# Installs the RPM in a clean root file system, makes a key, replaces it by itself and
# erases it: what rpm does with its files and its scripts. The root is one of Debian's,
# whose packages are not what the RPM names as its own, so those are not asked for. Needs
# root, rpm and debootstrap.
#
#   test-rpm.sh PACKAGE.rpm
set -euo pipefail

package=$(realpath "${1:?usage: test-rpm.sh PACKAGE.rpm}")
# What is mounted is so for this alone, and for no longer.
[ -n "${ONIONBRAID_UNSHARED:-}" ] || ONIONBRAID_UNSHARED=1 exec unshare --mount -- "$0" "$@"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
work=$(mktemp -d)
chmod 755 "$work"
root="$work/root"
trap 'umount "$root/proc" 2>/dev/null || true; rm -rf --one-file-system "$work"' EXIT

fail() {
    echo "test-rpm: $1" >&2
    exit 1
}

rpm_there() {
    rpm --root "$root" --dbpath /var/lib/rpm "$@" >"$work/rpm.log" 2>&1 || fail "rpm $1: $(tail -3 "$work/rpm.log")"
    ! grep -i -e scriptlet -e warning "$work/rpm.log" | grep -v -e rpmsave -e rpmnew -e NOKEY || fail "rpm $1 warns"
}

# What stands in for systemd's programs is nothing: scripts ask whether it runs.
rpm -qp --nosignature --requires "$package" | grep '^libc.so.6' >/dev/null || fail "it does not say that it needs a C library"
rpm -qp --nosignature --configfiles "$package" | grep -x /etc/onionbraid/arti.toml >/dev/null || fail "the configuration is none"

"$here/debian-root.sh" "$root" || fail "there is no root file system to install it in"
mount -t proc proc "$root/proc"
mkdir -p "$root/var/lib/rpm"
cp "$package" "$root/onionbraid.rpm"
rpm_there --initdb
rpm_there --nosignature --nodeps --install "$root/onionbraid.rpm"
as_service() { chroot "$root" setpriv --reuid onionbraid --regid onionbraid --clear-groups "$@"; }
state() { chroot "$root" stat -c '%U:%G %a' /var/lib/onionbraid; }

[ "$(state)" = 'onionbraid:onionbraid 700' ] || fail "the state directory is not the service's: $(state)"
[ "$(chroot "$root" stat -c '%U:%G %a' /etc/onionbraid/arti.toml)" = 'root:root 644' ] || fail "the configuration is not root's"
printf '\n[onion_services."shop"]\nproxy_ports = [["80", "http://127.0.0.1:8080"]]\n' >>"$root/etc/onionbraid/arti.toml"
chroot "$root" onionbraid keys generate shop -c /etc/onionbraid/arti.toml >/dev/null 2>"$work/keys.log" ||
    fail "root cannot make a key before the first start: $(tail -1 "$work/keys.log")"
address=$(as_service onionbraid keys address shop -c /etc/onionbraid/arti.toml) ||
    fail "the service's user cannot use the key that root made"

rpm_there --nosignature --nodeps --upgrade --replacepkgs "$root/onionbraid.rpm"
grep -q shop "$root/etc/onionbraid/arti.toml" || fail "an upgrade replaces the configuration"
[ "$(as_service onionbraid keys address shop -c /etc/onionbraid/arti.toml)" = "$address" ] ||
    fail "an upgrade loses the address"

rpm_there --nodeps --erase onionbraid
[ ! -e "$root/usr/bin/onionbraid" ] || fail "the program stays"
grep -q shop "$root/etc/onionbraid/arti.toml.rpmsave" || fail "erasing takes the configuration"
key=$(find "$root/var/lib/onionbraid/keystore" -name ks_hs_id.ed25519_expanded_private)
[ -s "$key" ] || fail "ERASING DELETES KEYS"
echo "test-rpm: ok, $SECONDS s"
