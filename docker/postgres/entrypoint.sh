#!/bin/sh
# As the official image: an empty PGDATA becomes a cluster with POSTGRES_USER, POSTGRES_DB and the password in POSTGRES_PASSWORD_FILE.
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --pgdata "$PGDATA" --username "$POSTGRES_USER" --pwfile "$POSTGRES_PASSWORD_FILE" --auth scram-sha-256 --encoding UTF8 \
        --locale C.UTF-8 >/dev/null
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    export PGPASSWORD
    pg_ctl --wait --options "-c listen_addresses='' -k /tmp" start
    createdb --host /tmp --username "$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl --wait --mode fast stop
    unset PGPASSWORD
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/tmp
