#!/usr/bin/env bash
# Fills an empty stack from what backup.sh has written, and starts it: restore.sh DIRECTORY
set -euo pipefail

[ $# = 1 ] && [ -f "$1/SHA256SUMS" ] || { echo "usage: $0 DIRECTORY, one that docker/backup.sh has written" >&2; exit 2; }
from=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
(cd "$from" && sha256sum --check --quiet SHA256SUMS)
project=$(sed -n 's/^COMPOSE_PROJECT_NAME=//p' "$from/env")
left=$(docker volume ls --quiet --filter "label=com.docker.compose.project=$project")
if [ -n "$left" ]; then
    echo "$0: the stack '$project' has data; 'make stack-reset' deletes it first" >&2
    exit 1
fi
umask 077
cp "$from/env" .env

echo "Valkey"
# An append-only log may begin with a snapshot; a snapshot alone would be ignored.
docker compose run --rm --no-deps -T --entrypoint sh valkey -ec '
    umask 077
    mkdir /data/appendonlydir
    cat >/data/appendonlydir/appendonly.aof.1.base.rdb
    echo "file appendonly.aof.1.base.rdb seq 1 type b" >/data/appendonlydir/appendonly.aof.manifest' <"$from/valkey.rdb"
echo "PostgreSQL"
docker compose up --detach --wait postgres datanode
docker compose exec -T postgres sh -ec '
    export PGPASSWORD=$(cat /run/secrets/postgres_password)
    exec pg_restore -h 127.0.0.1 -U airflow --dbname airflow --no-owner --exit-on-error' <"$from/postgres.dump"
echo "HDFS"
docker compose exec -T namenode sh -ec '
    rm -rf /tmp/backup && mkdir /tmp/backup && tar -C /tmp/backup -x
    if [ -d /tmp/backup/nightshift ]; then
        hadoop fs -copyFromLocal /tmp/backup/nightshift / >&2
        hadoop fs -chown -R nightshift:nightshift /nightshift >&2
    fi
    rm -rf /tmp/backup' <"$from/hdfs.tar"
echo "Logs and world"
docker compose run --rm --no-deps -T init tar -C / -x <"$from/files.tar"
docker compose up --detach --wait --wait-timeout 600
echo "The stack '$project' is restored from $1"
