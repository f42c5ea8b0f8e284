#!/usr/bin/env bash
# The stack's life: stack.sh up | down | reset. `make stack`, `make stack-down` and `make stack-reset` call this.
set -euo pipefail
cd "$(dirname "$0")/.."

DEFAULT_BASE=python:3.11-slim-bookworm

setting() { # NAME
    sed -n "s/^$1=//p" .env | tail -n 1
}

change() { # NAME VALUE: what was not chosen by a person
    sed -i "/^$1=/d" .env
    printf '%s=%s\n' "$1" "$2" >>.env
}

# With no registry in reach a base image is made from Debian's packages, and PostgreSQL and Valkey are built on it.
choose_base() {
    local base=${BASE_IMAGE:-$(setting BASE_IMAGE)}
    if [ -z "$base" ] && ! docker image inspect $DEFAULT_BASE >/dev/null 2>&1 && ! timeout 120 docker pull --quiet $DEFAULT_BASE 2>/dev/null; then
        echo "No container registry answers."
        base=nightshift-base
    fi
    base=${base:-$DEFAULT_BASE}
    if [ "$base" = nightshift-base ]; then
        docker/base/build.sh nightshift-base
        change COMPOSE_FILE docker-compose.airflow.yml:docker/without-registry.yml
    fi
    change BASE_IMAGE "$base"
}

simulations() { # of this stack, running or not
    docker ps --all --quiet --filter "label=org.nightshift.stack=$(setting COMPOSE_PROJECT_NAME)"
}

end_simulations() {
    local left
    left=$(simulations)
    # shellcheck disable=SC2086 -- a list
    [ -z "$left" ] || docker rm --force $left >/dev/null
}

up() {
    docker info >/dev/null 2>&1 || { echo "stack: no Docker engine answers; start it, or install docker.io" >&2; exit 1; }
    docker/compose/install.sh
    docker/secrets.sh
    choose_base
    docker compose build
    if [ -n "${RECSYS_WORLD:-}" ]; then
        docker compose run --rm --no-deps -T --volume "$(realpath "$RECSYS_WORLD"):/given:ro" init python stack/init.py world
    fi
    docker compose up --detach --wait --wait-timeout 600
    [ "${FIRST_NIGHT:-yes}" = no ] || docker compose run --rm --no-deps first-night
    echo
    echo "Airflow:  http://127.0.0.1:$(setting AIRFLOW_PORT | grep . || echo 8080)  user $(setting AIRFLOW_ADMIN_USER), password: grep AIRFLOW_ADMIN_PASSWORD .env"
    echo "Service:  http://127.0.0.1:$(setting SERVICE_PORT | grep . || echo 5000)"
    echo "'make stack-down' stops it and keeps the data; docs/operations.md tells more."
}

down() {
    docker compose --profile '*' stop scheduler celery-worker
    end_simulations
    docker compose --profile '*' down --remove-orphans
}

reset() {
    local project answer
    project=$(setting COMPOSE_PROJECT_NAME)
    echo "This deletes all data of the stack '$project': live versions, nights, logs, reports, Airflow's history."
    read -r -p "Type $project to go on: " answer
    [ "$answer" = "$project" ] || { echo "Nothing was deleted."; exit 1; }
    end_simulations
    docker compose --profile '*' down --volumes --remove-orphans
    echo "All data is deleted. Secrets and settings stay in .env; without that file the next start makes new secrets."
}

case ${1:-} in
    up) up ;;
    down | reset)
        [ -f .env ] || { echo "stack: there is no .env, so no stack was started here" >&2; exit 1; }
        "$1"
        ;;
    *) echo "usage: $0 up | down | reset" >&2 && exit 2 ;;
esac
