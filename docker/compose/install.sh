#!/usr/bin/env bash
# Sees that `docker compose` is there: where it is missing, builds it through the Go module proxy (about three minutes, once) and
# installs it as a plugin of the Docker client. Needs Go.
set -euo pipefail

docker compose version >/dev/null 2>&1 && exit 0
here=$(cd "$(dirname "$0")" && pwd)
version=$(awk '$1 == "github.com/docker/compose/v2" || $2 == "github.com/docker/compose/v2" { print $NF == "//" ? $2 : $NF; exit }' "$here/go.mod")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nightshift
binary=$cache/docker-compose-$version
if [ ! -x "$binary" ]; then
    command -v go >/dev/null || {
        echo "$0: 'docker compose' is missing; install docker-compose-plugin, or Go, with which this builds it" >&2
        exit 1
    }
    echo "Building docker compose $version (about three minutes, once)"
    mkdir -p "$cache"
    # Without its version compose would ask for a newer builder than the one that it brings.
    buildx=$(cd "$here" && go list -mod=readonly -m -f '{{.Version}}' github.com/docker/buildx)
    (cd "$here" && go build -mod=readonly -buildvcs=false -o "$binary.partial" \
        -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$version -X github.com/docker/buildx/version.Version=$buildx" \
        github.com/docker/compose/v2/cmd)
    mv "$binary.partial" "$binary"
fi
plugins=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
mkdir -p "$plugins"
ln -sf "$binary" "$plugins/docker-compose"
docker compose version
