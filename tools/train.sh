#!/usr/bin/env bash
# Train the diffusion U-Net, in one process or in several under Open MPI:
#   bash tools/train.sh [--gpus N | --processes N] [arguments of train.py ...]
# --gpus N uses the first N devices, one for each process; --processes N is for the CPU. Every process computes
# its share of the same batches, so a run can be continued with another number of processes.
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
source "$here/environment.sh" || exit 2

count=1
devices=
case ${1:-} in
--gpus | --processes)
    [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || fail "$1: is '${2:-}'; give a number above 0"
    count=$2
    [ "$1" = --gpus ] && devices=$2
    shift 2
    ;;
esac

check_devices() {                               # the devices that the processes will be allowed to use
    local found
    found=$(PYTHONPATH=$root "$python" -c \
            'from ldm.platform.devices import visible_devices; print(len(visible_devices()))') || exit 2
    [ "$devices" -le "$found" ] || fail "--gpus: is $devices, but there are $found NVIDIA devices; give a number up to that"
}

check_mpi() {                                   # Jittor compiles by mpicc: both must be Open MPI's
    local program said
    for program in mpirun "${mpicc_path:-mpicc}"; do
        command -v "$program" >/dev/null ||
            fail "$program: is not on the PATH; run \`apt-get install openmpi-bin libopenmpi-dev\`"
        case $program in
        mpirun) said=$(mpirun --version 2>&1) ;;
        *) said=$("$program" --showme:version 2>&1) ;;
        esac
        [[ $said == *"Open MPI"* ]] ||
            fail "$program: belongs to another MPI, and Jittor works with Open MPI only;" \
                 "run \`apt-get install openmpi-bin libopenmpi-dev\`"
    done
}

[ "$count" -gt 1 ] && check_mpi
find_environment
[ -n "$devices" ] && check_devices
[ "$count" = 1 ] && exec "$python" "$root/tools/train.py" "$@"
cores=$(nproc 2>/dev/null || echo 1)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > count ? cores / count : 1))}
options=(-np "$count" --bind-to none --oversubscribe)
[ "$EUID" = 0 ] && options+=(--allow-run-as-root)
mpirun --quiet "${options[@]}" "$python" "$root/tools/train.py" "$@" &
# A SIGTERM to mpirun would end the processes within a second; this signal it passes on, and they save.
trap 'kill -USR1 $!' TERM
wait $!
status=$?
while kill -0 $! 2>/dev/null; do                # the wait ends with a trapped signal, too
    wait $!
    status=$?
done
exit $status
