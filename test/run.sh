#!/usr/bin/env bash
# Every test, from a fresh clone on; arguments go to pytest. Jittor's core is compiled first, once and with a
# notice, so that no test is charged for it.
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
source "$here/../tools/environment.sh" || exit 2
install() {                     # NAME PACKAGE...: what some tests need; they are skipped without, and say so
    printf 'Installing %s ...\n' "$1" >&2
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${@:2}"; } \
        </dev/null >/dev/null 2>&1 || printf 'No %s can be had.\n' "$1" >&2
}

# Only a CI machine is given a system package unasked.
if [ "${CI:-}" = true ] && [ "$EUID" = 0 ] && command -v apt-get >/dev/null; then
    command -v mpicc >/dev/null && command -v mpirun >/dev/null || install "Open MPI" openmpi-bin libopenmpi-dev
    command -v chromium >/dev/null || install Chromium chromium
fi
wanted=(pytest pytest-xdist safetensors ruff mypy)
# The page's packages are for its own tests, which say why they are skipped without them.
(find_environment "${wanted[@]}" starlette uvicorn) && wanted+=(starlette uvicorn) ||
    printf 'Without starlette and uvicorn the tests of the page are skipped.\n' >&2
# The page is tried in a browser where Chromium is.
[ "${CI:-}" = true ] && (find_environment "${wanted[@]}" playwright) && wanted+=(playwright)
find_environment "${wanted[@]}"
cd "$root" || exit 2
# What ruff and mypy say depends on their versions and on numpy's: the tests are run all the same.
"$python" -m ruff check . && "$python" -m mypy
checked=$?
"$python" tools/doctor.py </dev/null || exit
# A process for each core, up to four, with a share of the threads. The tests of a file stay in one process, since
# they share what they make.
cores=$(nproc 2>/dev/null || echo 1)
workers=$((cores < 4 ? cores : 4))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores / workers))}
"$python" -m pytest test -n "$workers" --dist loadfile "$@" </dev/null
tested=$?
exit $((tested ? tested : checked))
