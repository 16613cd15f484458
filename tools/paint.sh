#!/usr/bin/env bash
# A page in the browser to paint masks on, from a fresh clone on. Arguments go to paint.py, `--help` lists them.
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
source "$here/environment.sh" || exit 2
find_environment starlette uvicorn
exec "$python" "$root/tools/paint.py" "$@"
