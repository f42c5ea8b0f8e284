#!/usr/bin/env bash
# Programs that tests need beside Python: each missing one is installed from the system's packages, if that is allowed.
# Nothing happens where all are there.
set -euo pipefail

missing=()

need() { # need COMMAND PACKAGE: the package that brings a command
    command -v "$1" >/dev/null || missing+=("$2")
}

need chromium chromium
need chromedriver chromium-driver

[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "tests need ${missing[*]}; install them as root with your system's package manager" >&2
    exit 1
fi
echo "installing ${missing[*]}"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
