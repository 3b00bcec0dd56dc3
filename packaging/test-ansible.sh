#!/usr/bin/env bash
# Runs the playbook of packaging/ansible for real, over ssh: two publishers and two
# backends, each in a root file system of Debian's with nothing but ssh and Python, on a
# private Tor network on loopback. A second run has to change nothing; one with --check
# shows what would change and changes nothing; a third changes the configuration while
# somebody fetches pages all the time: none may be lost. Needs root, debootstrap, ssh, age
# and ansible-core; removes all that it makes.
#
# systemd does not run in such a machine: a script plays as much of systemctl as the
# playbook asks for, with the unit's own command lines.
#
#   test-ansible.sh PACKAGE.deb DIRECTORY-OF-THE-DEBUG-BUILD
set -euo pipefail

usage="usage: test-ansible.sh PACKAGE.deb DIRECTORY-OF-THE-DEBUG-BUILD"
deb=$(realpath "${1:?$usage}")
build=${2:?$usage}
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
tools="$here/../target/tools/ansible"
work=$(mktemp -d)
chmod 755 "$work"
limit=300

# shellcheck source=packaging/private-network.sh
. "$here/private-network.sh"

fail() {
    echo "test-ansible: $1" >&2
    local machine
    for machine in "${machines[@]}"; do
        echo "--- $machine" >&2
        tail -5 "$work/$machine/var/log/onionbraid.log" >&2 2>/dev/null || true
    done
    exit 1
}

machines=(paris tallinn berlin lisbon)
"$here/debian-root.sh" "$work/base" || fail "there is no root file system for a machine"
# Nothing that is installed starts by itself.
printf '#!/bin/sh\nexit 101\n' >"$work/base/usr/sbin/policy-rc.d"
chmod 755 "$work/base/usr/sbin/policy-rc.d"
chroot "$work/base" sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
    apt-get install -qy --no-install-recommends python3 python3-apt openssh-server' >"$work/apt.log" 2>&1 ||
    fail "apt-get: $(tail -1 "$work/apt.log")"
install -m 755 "$here/played-systemctl.sh" "$work/base/usr/bin/systemctl"
ssh-keygen -q -t ed25519 -N '' -f "$work/ssh-key"
install -D -m 600 "$work/ssh-key.pub" "$work/base/root/.ssh/authorized_keys"
mkdir -p "$work/base/run/sshd"

start_network

serve_page

# Each machine has processes and mounts of its own, which end with it.
guests=()
# unshare(1) takes no other signal.
trap 'kill -KILL "${guests[@]}" 2>/dev/null; clean' EXIT
port=21000
inventory="$work/inventory.yml"
answers() { ssh-keyscan -p "$port" 127.0.0.1 2>/dev/null | grep -q .; }
for machine in "${machines[@]}"; do
    cp -a "$work/base" "$work/$machine"
    # A port that somebody has is not this machine's: the next one is tried.
    while answers; do port=$((port + 1)); done
    unshare --mount --pid --fork --kill-child \
        chroot "$work/$machine" sh -c "mount -t proc proc /proc && mount -t tmpfs tmpfs /dev/shm 2>/dev/null
            exec /usr/sbin/sshd -D -e -p $port -o ListenAddress=127.0.0.1 -o UsePAM=no" \
        >"$work/$machine.sshd" 2>&1 &
    guests+=($!)
    until_true "ssh to $machine" answers
    echo "$port" >"$work/$machine.port"
done
for device in null zero random urandom tty ptmx; do
    for machine in "${machines[@]}"; do
        [ -e "$work/$machine/dev/$device" ] || fail "$machine has no /dev/$device"
    done
done

identity="$work/backup.key"
recipient=$(age-keygen -o "$identity" 2>&1 | sed -n 's/^Public key: //p')
host() { echo "        $1: { ansible_port: $(cat "$work/$1.port") }"; }
cat >"$inventory" <<INVENTORY
onionbraid:
  vars:
    ansible_host: 127.0.0.1
    ansible_user: root
    ansible_ssh_private_key_file: $work/ssh-key
    ansible_ssh_common_args: -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR
    ansible_python_interpreter: /usr/bin/python3
    onionbraid_package: $deb
    onionbraid_backup_recipients: [$recipient]
    onionbraid_ports: [[80, "http://127.0.0.1:$(cat "$work/port")"]]
    onionbraid_probe: '{ port = 80, path = "/", interval = "10s" }'
    onionbraid_drain_pause: 10
    onionbraid_more: "{{ lookup('file', '$work/more.toml') }}"
  children:
    publishers:
      hosts:
$(host paris)
$(host tallinn)
    backends:
      hosts:
$(host berlin)
$(host lisbon)
INVENTORY
grep -v -e dangerously_trust_everyone -e '^\[storage' "$network/network.toml" >"$work/more.toml"

export PYTHONPATH="$tools" ANSIBLE_HOME="$work/ansible" ANSIBLE_LOCAL_TEMP="$work/ansible/tmp"
export ANSIBLE_PIPELINING=1 ANSIBLE_NOCOWS=1 ANSIBLE_NOCOLOR=1 ANSIBLE_SSH_CONTROL_PATH_DIR="$work/cp" LC_ALL=C.UTF-8

# play NAME [OPTION...]: runs the playbook.
play() {
    local name=$1 begun=$SECONDS
    shift
    python3 -m ansible playbook -i "$inventory" "$here/ansible/site.yml" "$@" >"$work/$name.log" 2>&1 || {
        grep -v '^ok:' "$work/$name.log" | tail -40 >&2
        fail "the $name run fails"
    }
    echo "test-ansible: the $name run took $((SECONDS - begun)) s:"
    sed -n '/^PLAY RECAP/,$p' "$work/$name.log" | sed -n 's/^\([a-z]\)/    \1/p'
}

inside() {
    local machine=$1
    shift
    ssh -i "$work/ssh-key" -p "$(cat "$work/$machine.port")" -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR root@127.0.0.1 "$@"
}

fetched() {
    curl --silent --fail --max-time 120 --proxy "socks5h://visit-$RANDOM:x@$socks" "http://$address/" |
        grep -q 'a page of the shop'
}

play first
address=$(inside paris runuser -u onionbraid -- onionbraid keys address shop -c /etc/onionbraid/arti.toml)
until_true "a page" fetched
[ "$(inside tallinn runuser -u onionbraid -- onionbraid keys address shop -c /etc/onionbraid/arti.toml)" = \
    "$address" ] || fail "the publishers have different keys"

play second
! sed -n '/^PLAY RECAP/,$p' "$work/second.log" | grep -q 'changed=[1-9]' || {
    grep -B4 '^changed' "$work/second.log" >&2
    fail "the second run changes something"
}

# What would change is shown, and nothing changes.
cp "$work/more.toml" "$work/before.toml"
printf '\n[shutdown]\ngrace = "4s"\n' >>"$work/more.toml"
play checked --check --diff
for machine in "${machines[@]}"; do
    grep -q "^$machine .*changed=[1-9]" "$work/checked.log" || fail "--check shows no change of $machine"
    ! inside "$machine" grep -q 4s /etc/onionbraid/arti.toml || fail "--check changes $machine"
done
cp "$work/before.toml" "$work/more.toml"

# Another configuration, while somebody looks at pages.
(
    while true; do
        if fetched; then echo good; else echo LOST; fi
        sleep 0.3
    done
) >"$work/visits" &
visitor=$!
children+=("$visitor")
printf '\n[shutdown]\ngrace = "5s"\n' >>"$work/more.toml"
play third
kill "$visitor"
grep -q drain "$work/third.log" || fail "no backend was drained"
grep -q good "$work/visits" || fail "nobody got a page meanwhile"
! grep -q LOST "$work/visits" || fail "$(grep -c LOST "$work/visits") pages of $(wc -l <"$work/visits") were lost"
echo "test-ansible: $(wc -l <"$work/visits") pages meanwhile, none lost"

# A mistake is found before anything is changed, and stops at the first machine.
cp "$work/more.toml" "$work/good.toml"
printf '\n[shutdwon]\n' >>"$work/more.toml"
if python3 -m ansible playbook -i "$inventory" "$here/ansible/site.yml" >"$work/mistake.log" 2>&1; then
    fail "a mistake in the configuration is not noticed"
fi
grep -q shutdwon "$work/mistake.log" || fail "a mistake is not named: $(tail -20 "$work/mistake.log")"
! grep -q '^changed: \[lisbon\]' "$work/mistake.log" || fail "a mistake does not stop at the first machine"
! inside berlin grep -q shutdwon /etc/onionbraid/arti.toml || fail "a mistake comes into force"
cp "$work/good.toml" "$work/more.toml"

# A publisher whose key is lost gets it from the other, though it is the first; no new one
# is made where only backups have it, and two different ones are noticed.
of_publisher() {
    inside "$1" runuser -u onionbraid -- onionbraid keys address /etc/onionbraid/keys/shop
}
refused() {
    local name=$1 reason=$2
    if python3 -m ansible playbook -i "$inventory" "$here/ansible/site.yml" >"$work/$name.log" 2>&1; then
        fail "the $name run succeeds"
    fi
    grep -q "$reason" "$work/$name.log" || fail "the $name run does not say why: $(tail -20 "$work/$name.log")"
}
inside paris mv /etc/onionbraid/keys /etc/onionbraid/kept
play reinstalled
[ "$(of_publisher paris)" = "$address" ] || fail "the first publisher gets another key"
inside paris rm -r /etc/onionbraid/keys
inside tallinn mv /etc/onionbraid/keys /etc/onionbraid/kept
refused lost 'onionbraid restore .*paris-.*\.onion\.age'
! inside paris test -e /etc/onionbraid/keys/shop || fail "a new key is made although there are backups"
inside tallinn mv /etc/onionbraid/kept /etc/onionbraid/keys
inside paris install -d -o onionbraid -g onionbraid -m 700 /etc/onionbraid/keys
inside paris runuser -u onionbraid -- onionbraid keys generate --out /etc/onionbraid/keys/shop >/dev/null
refused different 'keys of different addresses'
inside paris rm -r /etc/onionbraid/keys
inside paris mv /etc/onionbraid/kept /etc/onionbraid/keys

# The backups open, and have the key.
for machine in "${machines[@]}"; do
    "$build/onionbraid" restore "$work/backups/$machine"-*.onion.age --identity "$identity" --list >"$work/list"
    case "$machine" in
        paris | tallinn) grep -q "^key .* $address\$" "$work/list" || fail "the backup of $machine has no key" ;;
        *) grep -q '^key ' "$work/list" || fail "the backup of $machine has no key" ;;
    esac
done
until_true "a page in the end" fetched
echo "test-ansible: ok, $SECONDS s"
