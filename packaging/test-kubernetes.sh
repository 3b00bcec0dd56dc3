#!/usr/bin/env bash
# Starts the containers of what `onionbraid kubernetes` writes as its manifests say
# (arguments, mounts, users), on a private Tor network on loopback, while somebody
# fetches pages all the time: backends grow from one slot to three and shrink again,
# and a publisher dies. No request may be lost once the descriptor had time to change.
# Needs root, podman, runc, kubectl and kubernetes-validate; removes all that it makes.
#
#   test-kubernetes.sh IMAGE-ARCHIVE DIRECTORY-OF-THE-DEBUG-BUILD
set -euo pipefail

usage="usage: test-kubernetes.sh IMAGE-ARCHIVE DIRECTORY-OF-THE-DEBUG-BUILD"
archive=${1:?$usage}
build=${2:?$usage}
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PYTHONPATH="$here/../target/tools/validators"
work=$(mktemp -d)
chmod 755 "$work"
limit=300

# shellcheck source=packaging/private-network.sh
. "$here/private-network.sh"

fail() {
    echo "test-kubernetes: $1" >&2
    local pod
    for pod in $(podman ps --all --format '{{.Names}}'); do
        echo "--- $pod" >&2
        podman logs --tail 8 "$pod" >&2 2>/dev/null || true
    done
    exit 1
}

start_network

serve_page

load_image "$archive"

# render SLOTS: the manifests, on this network. All pods share the machine's ports here.
render() {
    "$build/onionbraid" kubernetes shop --slots "$1" --to "http://127.0.0.1:$(cat "$work/port")" \
        --image "$image" --out "$work/shop" --force 2>/dev/null
    local file
    for file in publisher.toml backend.toml; do
        sed -i 's/^prometheus.listen = .*/prometheus.listen = false/' "$work/shop/$file"
        grep -v -e 'dangerously_trust_everyone' -e '^\[storage' "$network/network.toml" >>"$work/shop/$file"
    done
    kubectl kustomize "$work/shop" >"$work/manifests.yaml"
    python3 -m kubernetes_validate --strict --quiet "$work/manifests.yaml"
}

start() {
    local arguments
    mapfile -d '' arguments < <(python3 "$here/pod.py" "$work/manifests.yaml" "$work/pods" "$1")
    podman rm --force "$1" >/dev/null 2>&1 || true
    podman run --detach --name "$1" --network host --no-healthcheck \
        --ulimit nofile=4096:4096 --ulimit nproc=1024:1024 "${arguments[@]}" >/dev/null
}

ready_pod() {
    local probe
    mapfile -d '' probe < <(python3 "$here/pod.py" "$work/manifests.yaml" "$work/pods" "$1" --probe)
    podman exec "$1" "${probe[@]}"
}

stop() {
    podman stop "$1" >/dev/null
    local code
    code=$(podman inspect --format '{{.State.ExitCode}}' "$1")
    [ "$code" = 0 ] || fail "SIGTERM ends $1 with $code"
}

# lists PUBLISHER SLOT...: whether it has published points of these slots, and everywhere.
lists() {
    local publisher=$1
    shift
    podman exec "$publisher" /usr/bin/onionbraid status --json -c /etc/onionbraid/arti.toml |
        jq --exit-status --arg slots "$*" '.services[0] | [.backends[] |
            select(.published_intro_points > 0) | .name] == ($slots | split(" "))
            and ([.descriptors[].hsdirs[].state] | all(. == "uploaded"))'
}

# One page after the other, each over a new circuit; what became of it, and when.
visit() {
    local number=0 phase begun
    while true; do
        number=$((number + 1))
        phase=$(cat "$work/phase")
        begun=$(date +%s.%N)
        if curl --silent --fail --max-time 120 --proxy "socks5h://visit-$number:x@$socks" \
            "http://$address/" | grep -q 'a page of the shop'; then
            echo "$phase good $begun $(date +%s.%N)"
        else
            echo "$phase LOST $begun $(date +%s.%N)"
        fi
        sleep 0.3
    done
}

phase() { echo "$1" >"$work/phase"; }

begun=$SECONDS
address=$(render 2)
for pod in shop-publisher-0 shop-publisher-1 shop-backend-0; do
    start "$pod"
done
for pod in shop-publisher-0 shop-publisher-1 shop-backend-0; do
    until_true "$pod ready" ready_pod "$pod"
    pid=$(podman inspect --format '{{.State.Pid}}' "$pod")
    grep -q '^Uid:.65532.65532.65532.65532$' "/proc/$pid/status" || fail "$pod does not run as user 65532"
    grep -q '^CapEff:.0000000000000000$' "/proc/$pid/status" || fail "$pod has capabilities"
done
echo "test-kubernetes: one slot of two is ready after $((SECONDS - begun)) s"
phase start
visit >"$work/visits" 2>/dev/null &
children+=($!)
until_true "the first page" grep -q ' good ' "$work/visits"

# A slot more than there were keys for: publishers follow the file, no pod restarts.
phase one-slot
render 3 >/dev/null
for pod in shop-publisher-0 shop-publisher-1; do
    python3 "$here/pod.py" "$work/manifests.yaml" "$work/pods" "$pod" --configmaps
done
begun=$SECONDS
start shop-backend-1
start shop-backend-2
for pod in shop-publisher-0 shop-publisher-1; do
    until_true "$pod with three slots" lists "$pod" slot-0 slot-1 slot-2
done
echo "test-kubernetes: from one slot to three, published after $((SECONDS - begun)) s"
phase three-slots
sleep 20

phase changing
begun=$SECONDS
stop shop-backend-2
stop shop-backend-1
for pod in shop-publisher-0 shop-publisher-1; do
    until_true "$pod with one slot" lists "$pod" slot-0
done
echo "test-kubernetes: from three slots to one, published after $((SECONDS - begun)) s"
phase one-slot-again
sleep 20

# One publisher dies; the other goes on alone, and sees what changes.
phase one-publisher
podman kill --signal KILL shop-publisher-0 >/dev/null
sleep 10
start shop-backend-1
until_true "the other publisher with two slots" lists shop-publisher-1 slot-0 slot-1
sleep 20

phase end
for pod in shop-publisher-1 shop-backend-0 shop-backend-1; do
    stop "$pod"
done
awk '$1 != "start" && $1 != "end" {
        took = $4 - $3; count[$1]++; if ($2 == "LOST") lost[$1]++; if (took > most[$1]) most[$1] = took
    } END {
        for (phase in count)
            printf "test-kubernetes: %s: %d requests, %d lost, the longest %.1f s\n", phase, count[phase], lost[phase], most[phase]
    }' "$work/visits" | sort
for phase in one-slot three-slots one-slot-again one-publisher; do
    grep -q "^$phase good" "$work/visits" || fail "nobody visited: $phase"
    if grep "^$phase LOST" "$work/visits"; then fail "requests were lost: $phase"; fi
done
echo "test-kubernetes: ok, $SECONDS s"
