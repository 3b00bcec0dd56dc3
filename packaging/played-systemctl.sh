#!/bin/sh
# Plays systemctl for the unit of onionbraid in a root file system without systemd, for
# test-clean-root.sh and test-ansible.sh: as much of it as Ansible asks for, with the
# command lines, the user and the directories of the unit.
unit=/usr/lib/systemd/system/onionbraid.service
[ -e "$unit" ] || unit=/lib/systemd/system/onionbraid.service
state=/run/played-systemd
mkdir -p "$state"

runs() { [ -s "$state/pid" ] && kill -0 "$(cat "$state/pid")" 2>/dev/null; }
enabled() { [ -e "$state/enabled" ]; }
as_service() { setpriv --reuid onionbraid --regid onionbraid --clear-groups -- "$@"; }

start() {
    runs && return
    install -d -o onionbraid -g onionbraid -m 700 /var/lib/onionbraid /var/cache/onionbraid /run/onionbraid
    # shellcheck disable=SC2046 # words of a command line
    as_service $(sed -n 's/^ExecStartPre=//p' "$unit") >>/var/log/onionbraid.log 2>&1 || return 1
    # No shell between, which would be ended in its place.
    # shellcheck disable=SC2046
    setsid setpriv --reuid onionbraid --regid onionbraid --clear-groups -- $(sed -n 's/^ExecStart=//p' "$unit") >>/var/log/onionbraid.log 2>&1 </dev/null &
    echo $! >"$state/pid"
}

stop() {
    runs || return
    kill "$(cat "$state/pid")"
    while runs; do sleep 0.2; done
}

while [ "${1#-}" != "$1" ]; do shift; done
case "$1" in
    daemon-reload) ;;
    show)
        echo "Id=onionbraid.service"
        echo "LoadState=loaded"
        if runs; then echo "ActiveState=active"; else echo "ActiveState=inactive"; fi
        if enabled; then echo "UnitFileState=enabled"; else echo "UnitFileState=disabled"; fi
        ;;
    is-active) runs && echo active ;;
    is-enabled) enabled && echo enabled ;;
    enable) touch "$state/enabled" ;;
    disable) rm -f "$state/enabled" ;;
    start) start ;;
    stop) stop ;;
    restart) stop; start ;;
    *) echo "systemctl: $* is not played" >&2; exit 1 ;;
esac
