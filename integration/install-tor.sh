#!/usr/bin/env bash
# Installs C tor (tor, tor-gencert) for the private network, unless it is there.
#
# Debian's package starts a tor that connects to the public network. The tests
# need the program only: while it is installed, a policy forbids starting
# services, and afterwards the service is disabled.
set -euo pipefail

PATH="$PATH:/usr/sbin:/usr/local/sbin"
if command -v tor >/dev/null && command -v tor-gencert >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "tor and tor-gencert are missing, and there is no apt-get: install C tor 0.4.8 or later" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "tor and tor-gencert are missing: as root, apt-get install tor" >&2
        exit 1
    fi
    exec sudo -- "$0"
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends tor
if [ -d /run/systemd/system ]; then
    systemctl disable --quiet --now tor.service
fi
