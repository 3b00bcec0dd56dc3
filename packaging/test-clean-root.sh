#!/usr/bin/env bash
# Installs the Debian package in a root file system that has nothing else, runs
# the program as the unit would, upgrades, removes and purges it. Needs root,
# debootstrap and Debian's packages. Nothing is started that reaches a network.
set -euo pipefail

deb=${1:?usage: test-clean-root.sh PACKAGE.deb}
unit="$(dirname "${BASH_SOURCE[0]}")/systemd/onionbraid.service"
root=$(mktemp -d)
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT

fail() {
    echo "test-clean-root: $1" >&2
    exit 1
}

inside() {
    chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@"
}

as_service() {
    inside setpriv --reuid onionbraid --regid onionbraid --clear-groups "$@"
}

exposure=$(systemd-analyze security --offline=true "$unit" | sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p')
awk -v exposure="$exposure" 'BEGIN { exit !(exposure != "" && exposure <= 1.5) }' ||
    fail "the unit's exposure is $exposure, more than 1.5"
! lintian --fail-on error "$deb" | grep '^E:' || fail "lintian finds errors"

debootstrap --variant=minbase bookworm "$root" >"$root.log" 2>&1 || fail "debootstrap: $(tail -1 "$root.log")"
rm -f "$root.log"
cp -a /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
cp "$deb" "$root/onionbraid.deb"
inside apt-get update -qq 2>/dev/null
inside apt-get install -qy --no-install-recommends /onionbraid.deb >/dev/null 2>&1

inside getent passwd onionbraid >/dev/null || fail "there is no system user"
# What the unit says of directories.
inside install -d -o onionbraid -g onionbraid -m 700 \
    /var/lib/onionbraid /var/cache/onionbraid /run/onionbraid
printf '\n[onion_services."shop"]\nproxy_ports = [["80", "http://127.0.0.1:8080"]]\n' \
    >>"$root/etc/onionbraid/arti.toml"
start=$(sed -n 's/^ExecStartPre=//p' "$unit")
# shellcheck disable=SC2086 # words of a command line
as_service $start >/dev/null || fail "the unit's check refuses the configuration"
as_service onionbraid keys generate shop -c /etc/onionbraid/arti.toml >/dev/null ||
    fail "the service's user cannot make a key"
address=$(as_service onionbraid keys address shop -c /etc/onionbraid/arti.toml)

inside apt-get install -qy --reinstall --no-install-recommends /onionbraid.deb >/dev/null 2>&1
grep -q shop "$root/etc/onionbraid/arti.toml" || fail "an upgrade replaces the configuration"
[ "$(as_service onionbraid keys address shop -c /etc/onionbraid/arti.toml)" = "$address" ] ||
    fail "an upgrade loses the address"

inside apt-get remove -qy onionbraid >/dev/null
[ -e "$root/etc/onionbraid/arti.toml" ] || fail "removing takes the configuration"
inside apt-get purge -qy onionbraid >/dev/null 2>&1
[ ! -e "$root/etc/onionbraid/arti.toml" ] || fail "purging leaves the configuration"
[ -d "$root/var/lib/onionbraid/keystore" ] || fail "PURGING DELETES KEYS"
echo "test-clean-root: ok"
