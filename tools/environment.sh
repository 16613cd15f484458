# Sourced by infer.sh, train.sh and test/run.sh. Sets $root, the repository, and defines
#   find_environment [package ...]
# which leaves in $python an interpreter that has what requirements.txt names and these packages: that of the
# active environment, of .venv in the repository, or the plain python3; else one is made or completed. That is
# .venv, or .venv-iidm where .venv is somebody else's: an environment that is not marked as made here is never
# changed. Ends with `error: ...` and status 2 where it cannot.
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

is_ours() {                                     # folder: was it made by make_venv?
    [ -f "$1/made-by-iidm" ] || [ -f "$1/requirements.installed" ]
}

choose_venv() {                                 # sets $venv, the environment that may be made or changed
    venv=$root/.venv
    if [ -e "$venv" ] || [ -L "$venv" ]; then
        is_ours "$venv" || venv=$root/.venv-iidm
    fi
    [ "$venv" = "$root/.venv" ] || [ ! -e "$venv" ] || is_ours "$venv" ||
        fail "$venv: was not made here, and neither was .venv; rename one of them"
}

requirements() {
    printf '%s\n' "$(<"$root/requirements.txt")" "$(<"$root/requirements-nodeps.txt")"
}

venv_is_ready() {                               # further packages
    # The stamp is removed before an installation and written after it: what was cut off is taken up again.
    local stamp=$venv/requirements.installed
    [ -f "$stamp" ] && [ "$(<"$stamp")" = "$(requirements)" ] && has_packages "$venv/bin/python" "$@"
}

# Exit status 3: wrong version, 4: something is missing; prints what. Runs under any Python, 2 included.
probe='
import os, sys
def end(status, text):
    print(text)
    sys.exit(status)
version = "Python %d.%d" % sys.version_info[:2]
where = version + " at " + sys.executable + ": "
if not (3, 9) <= sys.version_info[:2] <= (3, 14):
    end(3, where + "cannot be used, 3.9 to 3.14 is needed")
try:
    import ensurepip, venv
except ImportError:
    end(4, where + "has no venv, `apt-get install python3-venv`")
import sysconfig
if not os.path.isfile(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    end(4, where + "has no Python.h, `apt-get install python3-dev`")
print(version)
'

find_base() {                                   # sets $base and $version, a Python that can make $venv
    local name candidate problem='python3: none that works is on the PATH, Python 3.9 to 3.14 is needed'
    local rank=2 status
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python; do
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

# Empties the environment that is ours, and marks it as ours before anything else is in it.
mark='
import os, shutil, sys
shutil.rmtree(sys.argv[1], ignore_errors=True)
os.mkdir(sys.argv[1])
open(os.path.join(sys.argv[1], "made-by-iidm"), "w").close()
'

pip_install() {                                 # what it is for, arguments of pip install
    local said what=$1
    shift
    said=$("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@" 2>&1) ||
        fail "$what: cannot be installed (${said##*$'\n'}), a package index must be within reach"
}

make_venv() {                                   # further packages
    local said
    command -v "${cc_path:-g++}" >/dev/null ||
        fail "${cc_path:-g++}: is not on the PATH, Jittor compiles with it: \`apt-get install g++\`"
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        find_base
        printf 'Making %s with %s.\n' "$venv" "$version" >&2
        said=$("$base" -c "$mark" "$venv" 2>&1 && "$base" -m venv "$venv" 2>&1) ||
            fail "$venv: cannot be made (${said##*$'\n'}), a folder with 1 GB free is needed"
    fi
    printf 'Installing requirements.txt%s into %s, a minute or so ...\n' "${*:+ and $*}" "$venv" >&2
    "$venv/bin/python" -c 'import os, sys; os.path.exists(sys.argv[1]) and os.remove(sys.argv[1])' \
        "$venv/requirements.installed"
    pip_install requirements.txt -r "$root/requirements.txt" "$@"
    pip_install requirements-nodeps.txt --no-deps -r "$root/requirements-nodeps.txt"
    requirements >"$venv/requirements.installed"
}

find_environment() {                            # further packages; sets $python
    local active=${VIRTUAL_ENV:-${CONDA_PREFIX:-}} venv
    choose_venv
    for python in "${active:+$active/bin/python}" ready "$root/.venv/bin/python" "$(command -v python3)"; do
        if [ "$python" = ready ]; then
            python=$venv/bin/python
            venv_is_ready "$@" && return
        elif [ "$python" != "$venv/bin/python" ]; then       # ours counts only with its stamp
            has_packages "$python" "$@" && return
        fi
    done
    python=$venv/bin/python
    [ "$venv" = "$root/.venv" ] || [ -e "$venv" ] ||
        printf '%s was not made here and lacks packages: it stays as it is.\n' "$root/.venv" >&2
    if command -v flock >/dev/null; then        # two at once would spoil each other's installation
        exec 9<"$root/requirements.txt"
        flock --nonblock 9 || {
            printf 'Another process makes %s; waiting for it ...\n' "$venv" >&2
            flock 9
        }
    fi
    venv_is_ready "$@" || make_venv "$@"
    exec 9<&-
    has_packages "$python" "$@" || fail "$python: still lacks packages, delete $venv and start again"
}
