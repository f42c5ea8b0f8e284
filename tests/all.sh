#!/usr/bin/env bash
# Every test but the stack's, in three streams side by side: tests with Airflow wait more than they work. What they say comes last.
# Usage: tests/all.sh PYTHON [PYTEST ARGUMENT ...]; with arguments it is one pytest with these.
set -uo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
if (($#)); then
    exec "$python" -m pytest "$@"
fi
week=(tests/e2e/test_airflow_days.py tests/e2e/test_airflow_night.py)
runs=(tests/plugins)
for file in tests/e2e/test_airflow_*.py; do
    [[ " ${week[*]} " == *" $file "* ]] || runs+=("$file")
done
outputs=$(mktemp -d)
# A shell lets what runs beside it ignore Ctrl-C.
stream=(env --default-signal=INT "$python" -m)
rm -f .coverage .coverage.*
# Not measured, which costs a quarter more: the nights of the week pass through the same lines of recsys.
"${stream[@]}" pytest "${runs[@]}" >"$outputs/runs" 2>&1 &
beside=($!)
"${stream[@]}" coverage run -m pytest "${week[@]}" >"$outputs/week" 2>&1 &
beside+=($!)
trap 'kill -INT "${beside[@]}" 2>/dev/null; wait; rm -rf "$outputs"; exit 130' INT TERM
"${stream[@]}" coverage run -m pytest "${runs[@]/#/--ignore=}" "${week[@]/#/--ignore=}"
failed=$?
for pid in "${beside[@]}"; do
    wait "$pid" || failed=1
done
echo "tests with Airflow, which began at the same time:"
cat "$outputs"/*
rm -rf "$outputs"
"$python" -m coverage combine --quiet
"$python" -m coverage report || failed=1
exit $failed
