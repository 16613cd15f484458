#!/usr/bin/env bash
# The first half hour on a GPU: every step of it, and one report, gpu-check/report.md. Arguments go to
# gpu_check.py, `--help` lists them.
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
source "$here/environment.sh" || exit 2
find_environment pytest
exec "$python" "$root/tools/gpu_check.py" "$@"
