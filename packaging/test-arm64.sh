#!/usr/bin/env bash
# Runs the static program for arm64 with qemu on this machine: its version, its check,
# and a service on a private Tor network on loopback, of which a client fetches a page.
# Then the image for arm64 is looked at: its architecture, and that it has that program.
# Needs jq, qemu-aarch64-static and the demo, which is the network.
#
#   test-arm64.sh DIRECTORY-OF-THE-RELEASE DIRECTORY-OF-THE-DEBUG-BUILD
set -euo pipefail

usage="usage: test-arm64.sh DIRECTORY-OF-THE-RELEASE DIRECTORY-OF-THE-DEBUG-BUILD"
out=${1:?$usage}
build=${2:?$usage}
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
work=$(mktemp -d)
limit=600

# shellcheck source=packaging/private-network.sh
. "$here/private-network.sh"

fail() {
    echo "test-arm64: $1" >&2
    tail -5 "$work/daemon.log" >&2 2>/dev/null || true
    exit 1
}

mkdir "$work/tarball" "$work/image" "$work/files"
tar --extract --file "$out"/onionbraid-*-aarch64-linux.tar.gz --directory "$work/tarball" --strip-components 1
LC_ALL=C readelf --file-header "$work/tarball/onionbraid" | grep AArch64 >/dev/null || fail "the program is not for arm64"
! LC_ALL=C readelf --program-headers "$work/tarball/onionbraid" | grep INTERP || fail "the program is not static"
onionbraid() { qemu-aarch64-static "$work/tarball/onionbraid" "$@"; }
onionbraid --version || fail "it does not run"

tar --extract --file "$out"/onionbraid-*-aarch64-linux-image.tar.gz --directory "$work/image"
config=$(jq --raw-output '.[0].Config' "$work/image/manifest.json")
[ "$(jq --raw-output .architecture "$work/image/$config")" = arm64 ] || fail "the image is not for arm64"
jq --raw-output '.[0].Layers[]' "$work/image/manifest.json" | while read -r layer; do
    tar --extract --file "$work/image/$layer" --directory "$work/files"
done
cmp "$work/files/usr/bin/onionbraid" "$work/tarball/onionbraid" || fail "the image has another program"

start_network
serve_page
{
    cat <<TOML
[onion_services."shop"]
local_instances = 1
proxy_ports = [["80", "http://127.0.0.1:$(cat "$work/port")"]]
[storage]
state_dir = "$work/state"
cache_dir = "$work/cache"
[admin]
listen = "unix:$work/admin.sock"
TOML
    grep -v -e dangerously_trust_everyone -e '^\[storage' "$network/network.toml"
} >"$work/arti.toml"
onionbraid keys generate shop -c "$work/arti.toml" >/dev/null || fail "it makes no key"
address=$(onionbraid keys address shop -c "$work/arti.toml")
onionbraid check -c "$work/arti.toml" >"$work/check.log" 2>&1 || fail "check: $(tail -3 "$work/check.log")"
begun=$SECONDS
qemu-aarch64-static "$work/tarball/onionbraid" run -c "$work/arti.toml" >"$work/daemon.log" 2>&1 &
daemon=$!
children+=("$daemon")
fetched() {
    curl --silent --fail --max-time 60 --proxy "socks5h://visit-$RANDOM:x@$socks" "http://$address/" |
        grep -q 'a page of the shop'
}
until_true "a page" fetched
echo "test-arm64: a page after $((SECONDS - begun)) s"
kill -TERM "$daemon"
wait "$daemon" || fail "SIGTERM ends it with $?"
echo "test-arm64: ok, $SECONDS s"
