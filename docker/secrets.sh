#!/usr/bin/env bash
# Writes .env, readable by its owner only: secrets of the stack, made at the first start, beside its settings. What is there stays;
# what a newer version needs is added.
set -euo pipefail
cd "$(dirname "$0")/.."

umask 077
[ -e .env ] || printf '# Settings and secrets of the stack; see docs/operations.md. Never commit or share this file.\n' >.env
chmod 600 .env

add() { # NAME VALUE
    grep -q "^$1=" .env || printf '%s=%s\n' "$1" "$2" >>.env
}
random() { # BYTES
    head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'
}

add COMPOSE_FILE "${COMPOSE_FILE:-docker-compose.airflow.yml}"
add COMPOSE_PROJECT_NAME "${COMPOSE_PROJECT_NAME:-nightshift}"
socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
case $socket in
    unix://*) add DOCKER_SOCKET "${socket#unix://}" ;;
    *) echo "$0: DOCKER_HOST is $socket; the stack needs the engine of this machine, by its socket" >&2 && exit 1 ;;
esac
add DOCKER_GID "$(stat -Lc %g "$(sed -n 's/^DOCKER_SOCKET=//p' .env)")"

add AIRFLOW_ADMIN_USER admin
add AIRFLOW_ADMIN_PASSWORD "$(random 12)"
add AIRFLOW_API_SECRET "$(random 32)"
add AIRFLOW_FERNET_KEY "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
add AIRFLOW_JWT_SECRET "$(random 64)"
add POSTGRES_PASSWORD "$(random 16)"
add RECSYS_SERVICE_TOKEN "$(random 32)"
add VALKEY_PASSWORD "$(random 32)"
# These stand behind the passwords that they hold, which compose puts in; a person's own are left alone.
derive() { # NAME VALUE
    grep -vxF "$1=$2" .env >.env.partial || true
    mv .env.partial .env
    add "$1" "$2"
}
# shellcheck disable=SC2016 -- for compose
{
    derive AIRFLOW_DATABASE_URL 'postgresql+psycopg2://airflow:${POSTGRES_PASSWORD}@postgres:5432/airflow'
    derive AIRFLOW_RESULT_URL 'db+postgresql://airflow:${POSTGRES_PASSWORD}@postgres:5432/airflow'
    derive AIRFLOW_BROKER_URL 'redis://:${VALKEY_PASSWORD}@valkey:6379/1'
    derive VALKEY_URL 'redis://:${VALKEY_PASSWORD}@valkey:6379/0'
}
# Compose puts them in as they are: one that a URL reads otherwise would lead elsewhere.
for name in POSTGRES_PASSWORD VALKEY_PASSWORD; do
    if grep -qF "\${$name}@" .env && ! grep -Eqx "$name=[A-Za-z0-9._~-]+" .env; then
        echo "$0: $name in .env may hold letters, digits and ._~- only, or the …_URL with it must be your own" >&2 && exit 1
    fi
done
