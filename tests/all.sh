#!/usr/bin/env bash
# Every test but the stack's. Tests with Airflow wait more than they work, so they run beside the others; what they say comes last.
# Usage: tests/all.sh PYTHON [PYTEST ARGUMENT ...]; with arguments it is one pytest with these.
set -uo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
if (($#)); then
    exec "$python" -m pytest "$@"
fi
airflow=(tests/e2e/test_airflow_*.py tests/plugins)
output=$(mktemp)
rm -f .coverage .coverage.*
"$python" -m coverage run -m pytest "${airflow[@]}" >"$output" 2>&1 &
beside=$!
trap 'kill -INT $beside 2>/dev/null; wait $beside; rm -f "$output"; exit 130' INT TERM
"$python" -m coverage run -m pytest "${airflow[@]/#/--ignore=}"
others=$?
wait $beside
with_airflow=$?
echo "tests with Airflow, which began at the same time:"
cat "$output"
rm -f "$output"
"$python" -m coverage combine --quiet
"$python" -m coverage report
covered=$?
((others == 0 && with_airflow == 0 && covered == 0))
