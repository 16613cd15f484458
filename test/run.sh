#!/usr/bin/env bash
# Every test, from a fresh clone on; arguments go to pytest. Jittor's core is compiled first, once and with a
# notice, so that no test is charged for it.
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
source "$here/../tools/environment.sh" || exit 2
find_environment pytest
cd "$root" || exit 2
"$python" tools/doctor.py </dev/null || exit
exec "$python" -m pytest test "$@" </dev/null
