#!/bin/sh
# Installs the system's parts that tests start for real, where they are missing and this may be done: as root, with apt-get.
set -eu

packages=""
need() { # COMMAND PACKAGE...
    command -v "$1" >/dev/null 2>&1 && return
    shift
    packages="$packages $*"
}

need java openjdk-17-jre-headless
need mvn maven
need chromium chromium
need chromedriver chromium-driver
need dockerd docker.io iptables
need ip iproute2
need debootstrap debootstrap
[ -z "$packages" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "make: tests of real components need$packages; install them (here only root with apt-get could)" >&2
    exit 0
fi
echo "make: installing$packages for the tests" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 -- a list
apt-get install -y -qq --no-install-recommends $packages >/dev/null
