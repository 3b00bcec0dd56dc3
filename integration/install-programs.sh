#!/usr/bin/env bash
# Installs what the private network and the tests run, unless it is there:
# C tor and libfaketime always; with the argument `web` also nginx, an application server
# (Debian's Python with aiohttp) and curl; with `compare` nginx and wrk.
#
# Debian's packages start services: a tor that connects to the public network,
# an nginx on port 80. The programs alone are needed: while they are installed,
# a policy forbids starting services, and afterwards the services are disabled.
set -euo pipefail

PATH="$PATH:/usr/sbin:/usr/local/sbin"
packages=()
services=()
if ! command -v tor >/dev/null || ! command -v tor-gencert >/dev/null; then
    packages+=(tor)
    services+=(tor.service)
fi
compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || packages+=(faketime)
if [ -n "${1:-}" ] && ! command -v nginx >/dev/null; then
    packages+=(nginx-light)
    services+=(nginx.service)
fi
if [ "${1:-}" = compare ]; then
    command -v wrk >/dev/null || packages+=(wrk)
fi
if [ "${1:-}" = web ]; then
    command -v curl >/dev/null || packages+=(curl)
    /usr/bin/python3 -c 'import aiohttp' 2>/dev/null || packages+=(python3-aiohttp)
fi
if [ "${#packages[@]}" -eq 0 ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "missing, and there is no apt-get to install it: ${packages[*]} (names of Debian's packages)" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "missing: as root, apt-get install ${packages[*]}" >&2
        exit 1
    fi
    exec sudo -- "$0" "$@"
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends "${packages[@]}"
if [ -d /run/systemd/system ] && [ "${#services[@]}" -gt 0 ]; then
    systemctl disable --quiet --now "${services[@]}"
fi
