#!/usr/bin/env bash
# Runs the image as an operator would, on a private Tor network on loopback: it is
# published, a C tor client fetches a page, the health check passes, SIGTERM ends
# it well, and the address outlives the container. Needs root, podman, runc and
# the demo, which is the network; removes all that it makes.
#
#   test-image.sh IMAGE-ARCHIVE DIRECTORY-OF-THE-DEBUG-BUILD
set -euo pipefail

usage="usage: test-image.sh IMAGE-ARCHIVE DIRECTORY-OF-THE-DEBUG-BUILD"
archive=${1:?$usage}
build=${2:?$usage}
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
work=$(mktemp -d)
chmod 755 "$work"
name="onionbraid-test-$$"
limit=240

# shellcheck source=packaging/private-network.sh
. "$here/private-network.sh"

fail() {
    echo "test-image: $1" >&2
    command tail -n 5 "$work/demo.log" >&2 || true
    podman logs --tail 20 "$name" >&2 2>/dev/null || true
    exit 1
}

start_network

# What an operator brings: a configuration, a site, and a key as a secret.
mkdir "$work/etc" "$work/www"
echo "a page from the image" >"$work/www/index.html"
"$build/onionbraid" keys generate --out "$work/key" >/dev/null 2>&1
secret_address=$("$build/onionbraid" keys address "$work/key")
podman secret create shop-key "$work/key/hs_ed25519_secret_key" >/dev/null
grep -v 'dangerously_trust_everyone' "$network/network.toml" >"$work/etc/arti.toml"
cat >>"$work/etc/arti.toml" <<'TOML'

[onion_services."shop"]
identity_key = "/run/secrets/shop-key"
proxy_ports = [["80", "file:/srv"]]

[onion_services."kept"]
proxy_ports = [["80", "file:/srv"]]
TOML
chmod -R go=rX "$work/etc" "$work/www"

load_image "$archive"

start() {
    # Podman 4 makes no mount point for a secret on a read-only root.
    podman run --detach --name "$name" --network host \
        --ulimit nofile=4096:4096 --ulimit nproc=1024:1024 \
        --read-only --cap-drop all --security-opt no-new-privileges \
        --volume "$work/etc:/etc/onionbraid:ro" --volume "$work/www:/srv:ro" \
        --volume "$name-state:/var/lib/onionbraid" \
        --tmpfs /run/secrets --secret shop-key \
        --stop-timeout 45 "$image" >/dev/null
}

# healthy_and_answering ROUND
healthy_and_answering() {
    until_true "the health check" podman healthcheck run "$name"
    local address
    for address in "$secret_address" "$kept_address"; do
        until_true "a page, $1" eval "curl --silent --max-time 30 \
            --proxy 'socks5h://$1-\$RANDOM:x@$socks' 'http://$address/' | grep -q 'a page from the image'"
    done
}

stop() {
    podman stop "$name" >/dev/null
    code=$(podman inspect --format '{{.State.ExitCode}}' "$name")
    [ "$code" = 0 ] || fail "SIGTERM ends it with $code"
}

begun=$SECONDS
start
kept_address() { podman exec "$name" /usr/bin/onionbraid keys address kept; }
until_true "a key of its own" kept_address
kept_address=$(kept_address)
pid=$(podman inspect --format '{{.State.Pid}}' "$name")
grep -q '^Uid:.65532.65532.65532.65532$' "/proc/$pid/status" || fail "it does not run as user 65532"
grep -q '^CapEff:.0000000000000000$' "/proc/$pid/status" || fail "it has capabilities"
healthy_and_answering first
echo "test-image: published and answered after $((SECONDS - begun)) s"
stop

# Another container with the same volume, as after an upgrade.
podman rm "$name" >/dev/null
start
until_true "a key of its own, again" kept_address
[ "$(kept_address)" = "$kept_address" ] || fail "the address does not outlive the container"
healthy_and_answering second
stop
echo "test-image: ok, $SECONDS s"
