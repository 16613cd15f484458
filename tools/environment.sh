# Sourced by infer.sh and test/run.sh. Sets $root, the repository, and defines
#   find_environment [package ...]
# which leaves in $python an interpreter that has what requirements.txt names and these packages: that of the
# active environment, of .venv in the repository, or the plain python3; else .venv is made or completed. The
# user's own environment is never changed. Ends with `error: ...` and status 2 where it cannot.
# Only builtins of bash until a Python is found, so that a bare PATH gives a message too.

root=$(CDPATH= cd -- "${BASH_SOURCE[0]%/*}/.." && pwd -P)       # source it by a path with a slash

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

has_packages() {                                # interpreter, further packages
    local candidate=$1
    shift
    [ -n "$candidate" ] && "$candidate" "$root/tools/doctor.py" --packages "$@" >/dev/null 2>&1
}

venv_is_ready() {                               # further packages
    # The stamp is removed before an installation and written after it: what was cut off is taken up again.
    local stamp=$root/.venv/requirements.installed
    [ -f "$stamp" ] && [ "$(<"$stamp")" = "$(<"$root/requirements.txt")" ] &&
        has_packages "$root/.venv/bin/python" "$@"
}

# Exit status 3: wrong version, 4: something is missing; prints what. Runs under any Python, 2 included.
probe='
import os, sys
def end(status, text):
    print(text)
    sys.exit(status)
version = "Python %d.%d" % sys.version_info[:2]
where = version + " at " + sys.executable + ": "
if not (3, 9) <= sys.version_info[:2] <= (3, 12):
    end(3, where + "cannot be used, 3.9 to 3.12 is needed (numpy below 2 is built for these)")
try:
    import ensurepip, venv
except ImportError:
    end(4, where + "has no venv, `apt-get install python3-venv`")
import sysconfig
if not os.path.isfile(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    end(4, where + "has no Python.h, `apt-get install python3-dev`")
print(version)
'

find_base() {                                   # sets $base and $version, a Python that can make .venv
    local name candidate problem='python3: none that works is on the PATH, Python 3.9 to 3.12 is needed'
    local rank=2 status
    for name in python3 python3.12 python3.11 python3.10 python3.9 python; do
        candidate=$(command -v "$name") || continue
        version=$("$candidate" -c "$probe" 2>/dev/null)
        status=$?
        if [ $status = 0 ]; then
            base=$candidate
            return
        fi
        if [ $status -gt $rank ] && [ $status -le 4 ]; then     # the Python that comes nearest has the word
            rank=$status
            problem=$version
        fi
    done
    fail "$problem"
}

make_venv() {                                   # further packages
    local said
    command -v "${cc_path:-g++}" >/dev/null ||
        fail "${cc_path:-g++}: is not on the PATH, Jittor compiles with it: \`apt-get install g++\`"
    if ! "$root/.venv/bin/python" -m pip --version >/dev/null 2>&1; then
        find_base
        printf 'Making %s with %s.\n' "$root/.venv" "$version" >&2
        said=$("$base" -m venv --clear "$root/.venv" 2>&1) ||
            fail "$root/.venv: cannot be made (${said##*$'\n'}), a folder with 1 GB free is needed"
    fi
    printf 'Installing requirements.txt%s into %s, a minute or so ...\n' "${*:+ and $*}" "$root/.venv" >&2
    "$root/.venv/bin/python" -c 'import os, sys; os.path.exists(sys.argv[1]) and os.remove(sys.argv[1])' \
        "$root/.venv/requirements.installed"
    said=$("$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
           -r "$root/requirements.txt" "$@" 2>&1) ||
        fail "requirements.txt: cannot be installed (${said##*$'\n'}), a package index must be within reach"
    printf '%s\n' "$(<"$root/requirements.txt")" >"$root/.venv/requirements.installed"
}

find_environment() {                            # further packages; sets $python
    local active=${VIRTUAL_ENV:-${CONDA_PREFIX:-}}
    for python in "${active:+$active/bin/python}" ready "$(command -v python3)"; do
        if [ "$python" = ready ]; then
            python=$root/.venv/bin/python
            venv_is_ready "$@" && return
        else
            has_packages "$python" "$@" && return
        fi
    done
    python=$root/.venv/bin/python
    if command -v flock >/dev/null; then        # two at once would spoil each other's installation
        exec 9<"$root/requirements.txt"
        flock --nonblock 9 || {
            printf 'Another process makes %s; waiting for it ...\n' "$root/.venv" >&2
            flock 9
        }
    fi
    venv_is_ready "$@" || make_venv "$@"
    exec 9<&-
    has_packages "$python" "$@" || fail "$python: still lacks packages, delete $root/.venv and start again"
}
