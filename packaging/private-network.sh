# What tests of packages share: podman with a store of its own, and a private Tor network
# on loopback, which is the demo's. Sourced by them, with `work` (a directory),
# `build` (that of the debug build), `limit` (in seconds) and `fail MESSAGE` theirs;
# all that was started ends with the script that sources this.
children=()

podman() {
    command podman --log-level fatal --root "$work/storage" --runroot "$work/run" --tmpdir "$work/tmp" \
        --storage-driver vfs --cgroup-manager cgroupfs --runtime runc --events-backend none "$@"
}

clean() {
    [ ! -e "$work/storage" ] || podman rm --all --force --time 5 --volumes >/dev/null 2>&1 || true
    local child
    for child in "${children[@]}"; do
        kill "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    done
    rm -rf --one-file-system "$work"
}
trap clean EXIT

# until_true WHAT COMMAND...: tries it until it succeeds.
until_true() {
    local what=$1 end=$((SECONDS + limit))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "$what: not in $limit s"
        sleep 0.5
    done
}

# start_network: sets `socks`, the port of a client, and `network`, its directory.
start_network() {
    KEEP=1 "$build/examples/demo" >"$work/demo.log" 2>&1 &
    children+=($!)
    ready() { grep -q '^KEEP' "$work/demo.log" || ! kill -0 "${children[0]}"; }
    until_true "the private network" ready
    socks=$(sed -n 's/.*socks5h:.*@\(127[0-9.:]*\) .*/\1/p' "$work/demo.log")
    network=$(sed -n 's/^ *config  //p' "$work/demo.log")
    [ -n "$socks" ] && [ -n "$network" ] ||
        fail "the private network does not start: $(tail -3 "$work/demo.log")"
}

# serve_page: a site of one page, on the port that is in `$work/port`.
serve_page() {
    mkdir "$work/www"
    echo "a page of the shop" >"$work/www/index.html"
    python3 -u -c '
import functools, http.server, sys
serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
for port in range(20000, 30000):
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), serve)
        break
    except OSError:
        pass
print(port)
server.serve_forever()' "$work/www" >"$work/port" 2>/dev/null &
    children+=($!)
    until_true "a web server" test -s "$work/port"
}

# load_image ARCHIVE: sets `image`, its name.
load_image() {
    gunzip <"$1" | podman load --quiet >/dev/null
    image=$(podman images --format '{{.Repository}}:{{.Tag}}' | head -1)
}
