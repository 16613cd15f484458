#!/usr/bin/env bash
# Masks and style references become landscapes, from a fresh clone on. Without arguments the demo model is run
# on data/samples into results/demo; arguments go to infer.py, `--help` lists them.
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
source "$here/environment.sh" || exit 2
find_environment
exec "$python" "$root/tools/infer.py" "$@"
