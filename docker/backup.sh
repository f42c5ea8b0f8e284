#!/usr/bin/env bash
# Copies everything that a stack cannot make again into a directory: backup.sh DIRECTORY
# PostgreSQL, Valkey, HDFS, Airflow's and the service's logs, the world, .env. Whoever can read the copy has the secrets.
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 DIRECTORY" >&2; exit 2; }
# A relative name is the caller's.
set -- "$(realpath -m "$1")"
cd "$(dirname "$0")/.."
[ ! -e "$1" ] || { echo "$0: $1 is there already; name a new directory" >&2; exit 1; }
project=$(sed -n 's/^COMPOSE_PROJECT_NAME=//p' .env)
# shellcheck disable=SC2016 -- the container's shell reads the secret
sql='PGPASSWORD=$(cat /run/secrets/postgres_password) exec'
running=$(docker compose exec -T postgres sh -ec "$sql psql -h 127.0.0.1 -U airflow -Atc \"select count(*) from dag_run where state='running'\"")
if [ "$running" != 0 ]; then
    echo "$0: $running DAG runs are under way; parts copied one after another would not fit together. Wait for their end" >&2
    exit 1
fi

umask 077
partial=$1.partial
rm -rf "$partial"
mkdir -p "$partial"
echo "PostgreSQL"
docker compose exec -T postgres sh -ec "$sql pg_dump -h 127.0.0.1 -U airflow --format custom airflow" >"$partial/postgres.dump"
echo "Valkey"
docker compose exec -T valkey sh -ec '
    export REDISCLI_AUTH=$(cat /run/secrets/valkey_password)
    while valkey-cli info persistence | grep -q "_in_progress:1"; do sleep 0.2; done
    valkey-cli save | grep -q OK
    cat /data/dump.rdb && rm /data/dump.rdb' >"$partial/valkey.rdb"
echo "HDFS"
docker compose exec -T namenode sh -ec '
    rm -rf /tmp/backup && mkdir /tmp/backup
    if hadoop fs -test -e /nightshift; then hadoop fs -copyToLocal /nightshift /tmp/backup >&2; fi
    tar -C /tmp/backup -c . && rm -rf /tmp/backup' >"$partial/hdfs.tar"
echo "Logs and world"
docker compose exec -T scheduler tar -C / -c var/lib/nightshift/airflow-logs var/lib/nightshift/service-logs world >"$partial/files.tar"
cp .env "$partial/env"
(cd "$partial" && sha256sum ./* >SHA256SUMS)
mv "$partial" "$1"
echo "The stack '$project' is copied to $1 ($(du -sh "$1" | cut -f1))"
