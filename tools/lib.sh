# Sourced by the scripts beside it.
# shellcheck shell=bash
# What Debian has and this machine has not is unpacked here instead of installed (tests/__init__.py says the same).
cache=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.cache
unpacked=$cache/debian
# The sbins: root's PATH lacks them after a plain `su`.
export PATH="$unpacked/usr/bin:$unpacked/usr/sbin:$unpacked/bin:$PATH:/usr/sbin:/sbin"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

can_unpack() { [ -e /etc/debian_version ] && command -v apt-get dpkg-deb >/dev/null; }

# apt_unpack PACKAGE…: Debian's programs without their dependencies, in this checkout alone; takes no root.
apt_unpack() {
    say "unpacking into .cache: $*"
    local work log lists=$unpacked/lists
    mkdir -p "$unpacked"
    work=$(mktemp -d "$unpacked/new.XXXXXX")
    log=$work/log
    # Stale or no package lists make the first attempt fail at once; fresh ones of our own leave the system's alone.
    (
        cd "$work"
        own=(-o "Dir::State::Lists=$lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
        apt-get -qq -o APT::Sandbox::User=root download "$@" ||
            { mkdir -p "$lists/partial" && apt-get -qq -o APT::Sandbox::User=root "${own[@]}" update &&
                apt-get -qq -o APT::Sandbox::User=root "${own[@]}" download "$@"; }
    ) </dev/null >"$log" 2>&1 || { say "apt failed: $(grep '^E:' "$log" | tail -n 1)"; rm -rf "$work"; return 1; }
    for deb in "$work"/*.deb; do dpkg-deb --extract "$deb" "$unpacked"; done
    rm -rf "$work"
}

# unpack_from SUITE FOLDER PACKAGE…: another release's, into .cache/FOLDER
unpack_from() {
    local suite=$1 folder=$cache/$2 work
    shift 2
    can_unpack || die "this needs Debian's apt-get and dpkg-deb"
    say "unpacking Debian $suite's into .cache: $*"
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/new.XXXXXX")
    mkdir -p "$work/lists/partial" "$work/root"
    # The mirror that the machine has, and Debian's own where it has none.
    local mirror
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' \
        'Codename: bookworm' 2>/dev/null | head -n 1)
    echo "deb ${mirror:-http://deb.debian.org/debian} $suite main" >"$work/sources"
    local apt=(apt-get -qq -o APT::Sandbox::User=root -o "Dir::State::Lists=$work/lists"
        -o "Dir::Etc::SourceList=$work/sources" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
    (cd "$work" && "${apt[@]}" update && "${apt[@]}" download "$@") </dev/null >"$work/log" 2>&1 ||
        { say "apt failed: $(grep '^E:' "$work/log" | tail -n 1)"; rm -rf "$work"; exit 1; }
    for deb in "$work"/*.deb; do dpkg-deb --extract "$deb" "$work/root"; done
    rm -rf "$folder"
    mv "$work/root" "$folder"
    rm -rf "$work"
}

can_apt() { [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE…: as root on Debian, quietly, starting none of their services.
apt_install() {
    say "installing with apt: $*"
    local log policy=/usr/sbin/policy-rc.d ours=
    log=$(mktemp)
    if [ ! -e "$policy" ]; then
        ours=$policy
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    fi
    # shellcheck disable=SC2064  # expanded now on purpose: these are locals
    trap "rm -f '$log' $ours" EXIT
    trap 'exit 130' INT TERM
    set -- apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
    # Fresh or stale package lists make the first attempt fail at once.
    { DEBIAN_FRONTEND=noninteractive "$@" || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive "$@"; }; } \
        </dev/null >"$log" 2>&1 || die "apt failed: $(grep '^E:' "$log" | tail -n 1)"
    rm -f "$log" $ours
    trap - EXIT INT TERM
}

# own_network: a network namespace $name at the address $far, of which this machine is the gateway, $near: a network of
# four addresses, another one for each script that runs.
own_network() {
    local net=10.213.$(($$ / 64 % 254)) last=$(($$ % 64 * 4))
    near=$net.$((last + 1)) far=$net.$((last + 2))
    ip netns add "$name"
    ip link add "$name-a" type veth peer name eth0 netns "$name"
    ip address add "$near/30" dev "$name-a"
    ip link set "$name-a" up
    ip -n "$name" link set lo up
    ip -n "$name" address add "$far/30" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" route add default via "$near"
    rules -A
}
# end_rest: what an engine of ours has left running; all of it names $work.
end_rest() { pgrep --full "$work/" | xargs --no-run-if-empty kill -KILL 2>/dev/null || true; }
drop_network() {
    rules -D 2>/dev/null || true
    ip link delete "$name-a" 2>/dev/null || true
    ip netns delete "$name" 2>/dev/null || true
}
rules() { # -A or -D: the namespace reaches package registries as the machine does; nothing else is let through
    iptables -w -t nat "$1" POSTROUTING -s "$far" -j MASQUERADE
    iptables -w "${1/A/I}" FORWARD -s "$far" -j ACCEPT
    iptables -w "${1/A/I}" FORWARD -d "$far" -j ACCEPT
}
