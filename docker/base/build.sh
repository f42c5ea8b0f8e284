#!/usr/bin/env bash
# Makes a base image with Python 3.11 from Debian 12's own packages, for machines that reach no container registry.
# The mirror and the certificates are the machine's own. Needs root, debootstrap and a Docker engine.
#
# usage: docker/base/build.sh [TAG]
set -euo pipefail

tag=${1:-nightshift-base}
if docker image inspect "$tag" >/dev/null 2>&1; then
    echo "base image $tag is there"
    exit 0
fi
for command in debootstrap docker; do
    command -v "$command" >/dev/null || { echo "$0: $command is missing: apt-get install debootstrap docker.io" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "$0: debootstrap needs root" >&2; exit 1; }

mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null || true; } |
    grep -Eo 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ' || true)
[ -n "$mirror" ] || { echo "$0: no Debian mirror stands in the machine's sources lists" >&2; exit 1; }

# What was made in the last day is taken again: engines that stand side by side, and those of tests, need not make their own.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nightshift
mkdir -p "$cache"
tarball=$cache/base-$(sha256sum "$0" | head -c 12).tar
exec 9>"$cache/.base.lock"
flock 9

make_tarball() {
    local root
    root=$(mktemp -d)
    # shellcheck disable=SC2064 -- this directory
    trap "rm -rf '$root' '$root.log' '$tarball.partial'" EXIT
    echo "Making base image $tag with debootstrap (about a minute)"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,tini bookworm "$root" "$mirror" >"$root.log" 2>&1 ||
        { tail -n 20 "$root.log" >&2; exit 1; }
    # Certificates that this machine trusts beyond Debian's, such as a proxy's.
    mkdir -p "$root/usr/local/share/ca-certificates"
    find /usr/local/share/ca-certificates -name '*.crt' -exec cp -t "$root/usr/local/share/ca-certificates" {} +
    chroot "$root" update-ca-certificates >/dev/null
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    tar --create --one-file-system --directory "$root" --file "$tarball.partial" .
    mv "$tarball.partial" "$tarball"
}

if [ -z "$(find "$tarball" -mmin -1440 2>/dev/null)" ]; then
    rm -f "$cache"/base-*.tar
    make_tarball
fi
docker import \
    --change 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' \
    --change 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' \
    --change 'ENV REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt' \
    "$tarball" "$tag" >/dev/null
echo "base image $tag is made"
