#!/usr/bin/env bash
# Installs the Debian package in a root file system that has nothing else, starts the
# program as the unit would, and fetches a page of its service on a private Tor network on
# loopback; then upgrades, removes and purges it. Needs root, debootstrap and Debian's
# packages, and the demo, which is the network; removes all that it makes.
#
#   test-clean-root.sh PACKAGE.deb DIRECTORY-OF-THE-DEBUG-BUILD
set -euo pipefail

usage="usage: test-clean-root.sh PACKAGE.deb DIRECTORY-OF-THE-DEBUG-BUILD"
deb=${1:?$usage}
build=${2:?$usage}
# What is mounted is so for this alone, and for no longer.
[ -n "${ONIONBRAID_UNSHARED:-}" ] || ONIONBRAID_UNSHARED=1 exec unshare --mount -- "$0" "$@"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
unit="$here/systemd/onionbraid.service"
work=$(mktemp -d)
chmod 755 "$work"
root="$work/root"
limit=240

# shellcheck source=packaging/private-network.sh
. "$here/private-network.sh"
trap 'inside systemctl stop onionbraid 2>/dev/null || true; umount "$root/proc" 2>/dev/null || true; clean' EXIT

fail() {
    echo "test-clean-root: $1" >&2
    tail -5 "$root/var/log/onionbraid.log" >&2 2>/dev/null || true
    exit 1
}

inside() {
    chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@"
}

as_service() {
    inside setpriv --reuid onionbraid --regid onionbraid --clear-groups "$@"
}

install_package() {
    inside apt-get install -qy --no-install-recommends "$@" /onionbraid.deb >"$work/apt.log" 2>&1 ||
        fail "$(tail -3 "$work/apt.log")"
}

exposure=$(systemd-analyze security --offline=true "$unit" | sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p')
awk -v exposure="$exposure" 'BEGIN { exit !(exposure != "" && exposure <= 1.5) }' ||
    fail "the unit's exposure is $exposure, more than 1.5"
lintian --allow-root --fail-on error "$deb" >"$work/lintian.log" || fail "lintian: $(grep "^E:" "$work/lintian.log" | head -5)"

"$here/debian-root.sh" "$root" || fail "there is no root file system to install it in"
mount -t proc proc "$root/proc"
cp "$deb" "$root/onionbraid.deb"
inside apt-get update -qq 2>/dev/null
start_network
serve_page

begun=$SECONDS
install_package
installed=$SECONDS
inside getent passwd onionbraid >/dev/null || fail "there is no system user"
[ "$(inside stat -c '%U:%G %a' /var/lib/onionbraid)" = 'onionbraid:onionbraid 700' ] ||
    fail "the state directory is not the service's: $(inside stat -c '%U:%G %a' /var/lib/onionbraid)"
printf '\n[onion_services."shop"]\nlocal_instances = 1\nproxy_ports = [["80", "http://127.0.0.1:%s"]]\n' \
    "$(cat "$work/port")" >>"$root/etc/onionbraid/arti.toml"
# The private network, instead of the public one.
grep -v -e dangerously_trust_everyone -e '^\[storage' "$network/network.toml" >>"$root/etc/onionbraid/arti.toml"
# Before the first start, by root, as the documentation says.
inside onionbraid keys generate shop -c /etc/onionbraid/arti.toml >/dev/null ||
    fail "root cannot make a key before the first start"
address=$(as_service onionbraid keys address shop -c /etc/onionbraid/arti.toml) ||
    fail "the service's user cannot use the key that root made"
# It plays the unit: its command lines, user and directories.
install -m 755 "$here/played-systemctl.sh" "$root/usr/bin/systemctl"
inside systemctl start onionbraid || fail "the unit does not start"
fetched() {
    curl --silent --fail --max-time 30 --proxy "socks5h://visit-$RANDOM:x@$socks" "http://$address/" |
        grep -q 'a page of the shop'
}
until_true "a page" fetched
echo "test-clean-root: a page $((SECONDS - begun)) s after \`apt install\` began, which took $((installed - begun)) s"
pid=$(cat "$root/run/played-systemd/pid")
inside systemctl stop onionbraid
[ ! -e "/proc/$pid" ] || fail "it does not end"

install_package --reinstall
grep -q shop "$root/etc/onionbraid/arti.toml" || fail "an upgrade replaces the configuration"
[ "$(as_service onionbraid keys address shop -c /etc/onionbraid/arti.toml)" = "$address" ] ||
    fail "an upgrade loses the address"
inside systemctl start onionbraid || fail "the unit does not start after an upgrade"
until_true "a page after an upgrade" fetched
inside systemctl stop onionbraid

inside apt-get remove -qy onionbraid >/dev/null 2>&1
[ -e "$root/etc/onionbraid/arti.toml" ] || fail "removing takes the configuration"
inside apt-get purge -qy onionbraid >/dev/null 2>&1
[ ! -e "$root/etc/onionbraid/arti.toml" ] || fail "purging leaves the configuration"
key=$(find "$root/var/lib/onionbraid/keystore" -name ks_hs_id.ed25519_expanded_private)
[ -s "$key" ] || fail "PURGING DELETES KEYS"
# Whoever comes back finds their address.
install_package
[ "$(inside stat -c '%U:%G %a' /var/lib/onionbraid)" = 'onionbraid:onionbraid 700' ] ||
    fail "the state directory is another's after it was purged and installed again"
echo "test-clean-root: ok, $SECONDS s"
