#!/usr/bin/env bash
# Every test but the stack's. Tests that share a platform with Airflow wait more than they work, so they run beside the others; what
# they say comes last.
# Usage: tests/all.sh PYTHON [PYTEST ARGUMENT ...]; with arguments it is one pytest with these.
set -uo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
if (($#)); then
    exec "$python" -m pytest "$@"
fi
shared=(tests/e2e/test_airflow_{days,faults,runs,trigger}.py)
output=$(mktemp)
# A shell lets what runs beside it ignore Ctrl-C.
measured=(env --default-signal=INT "$python" -m coverage run -m pytest)
rm -f .coverage .coverage.*
"${measured[@]}" "${shared[@]}" >"$output" 2>&1 &
beside=$!
trap 'kill -INT $beside 2>/dev/null; wait $beside; rm -f "$output"; exit 130' INT TERM
"${measured[@]}" "${shared[@]/#/--ignore=}"
others=$?
wait $beside
with_airflow=$?
echo "tests that share a platform with Airflow, which began at the same time:"
cat "$output"
rm -f "$output"
"$python" -m coverage combine --quiet
"$python" -m coverage report
covered=$?
((others == 0 && with_airflow == 0 && covered == 0))
