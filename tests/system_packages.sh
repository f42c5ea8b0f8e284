#!/bin/sh
# What tests on a real HDFS need from the system: Java 17 and Maven. Installs what is missing, if it may: as root, with apt-get.
set -eu

wanted=""
command -v java >/dev/null || wanted="openjdk-17-jre-headless"
command -v mvn >/dev/null || wanted="$wanted maven"
if [ -z "$wanted" ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "tests on a real HDFS need $wanted, which only an administrator can install here" >&2
    exit 0
fi
echo "installing $wanted for tests on a real HDFS" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 - a list of packages
apt-get install -y -qq --no-install-recommends $wanted >/dev/null
