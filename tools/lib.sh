# Sourced by the scripts beside it.
# shellcheck shell=bash
export PATH="$PATH:/usr/sbin:/sbin" # root's PATH lacks them after a plain `su`

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

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
