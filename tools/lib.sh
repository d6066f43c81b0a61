# Sourced by the scripts beside it.
# shellcheck shell=bash
# What Debian has and this machine has not is unpacked here instead of installed (tests/__init__.py says the same).
unpacked=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.cache/debian
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
