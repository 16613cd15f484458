#!/usr/bin/env bash
# Train the diffusion U-Net, in one process or in several under Open MPI:
#   bash tools/train.sh [--gpus N | --processes N] [--hostfile F] [arguments of train.py ...]
# --gpus N uses N devices, one for each process; --processes N is for the CPU. Every process computes its share
# of the same batches, so a run can be continued with another number of processes.
# With --hostfile F (lines `node1 slots=4`), or in an allocation of Slurm, PBS or LSF, N is the number on all
# machines together. See docs/cluster.md.
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
source "$here/environment.sh" || exit 2

count=1
devices=
machines=${SLURM_JOB_ID:-${PBS_JOBID:-${LSB_JOBID:-}}}      # not empty: an allocation names them
hostfile=
arguments=()                                    # of train.py
while [ $# -gt 0 ]; do
    case $1 in
    --gpus | --processes)
        [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || fail "$1: is '${2:-}'; give a number above 0"
        count=$2
        [ "$1" = --gpus ] && devices=$2
        shift 2
        ;;
    --hostfile)
        [ -f "${2:-}" ] || fail "--hostfile: '${2:-}' is not a file; write lines such as \`node1 slots=4\` into one"
        hostfile=$2
        shift 2
        ;;
    *)
        arguments+=("$1")
        shift
        ;;
    esac
done

check_hosts() {                                 # mpirun says nothing about a file that it cannot use
    local line number=0 slots=0 hosts=0
    [ "$count" -gt 1 ] || fail "--hostfile: is for several processes; give --gpus N or --processes N too"
    while read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        line=${line%%#*}
        [[ $line =~ [^[:space:]] ]] || continue
        [[ $line =~ ^[[:alnum:]_.:@-]+([[:space:]]+(max_?slots|slots)[[:space:]]*=[[:space:]]*[0-9]+)*[[:space:]]*$ ]] ||
            fail "$hostfile: line $number is '${line:0:60}'; write the name of a machine, as in \`node1 slots=4\`"
        hosts=$((hosts + 1))
        if [[ $line =~ [[:space:]]slots[[:space:]]*=[[:space:]]*([0-9]+) ]]; then
            slots=$((slots + 10#${BASH_REMATCH[1]}))
        else
            slots=$((slots + count))            # as many as mpirun finds there
        fi
    done <"$hostfile"
    [ "$hosts" -gt 0 ] || fail "$hostfile: names no machine; write lines such as \`node1 slots=4\`"
    [ "$slots" -ge "$count" ] || fail "$hostfile: has $slots slots for $count processes; raise slots=, or start fewer"
}

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

refuse_srun() {                                 # srun starts this script several times, once for each task
    local tasks=${SLURM_STEP_NUM_TASKS:-1}
    [ "${SLURM_STEP_ID:-4294967290}" = 4294967290 ] || [ "$tasks" -le 1 ] ||
        fail "srun: starts $tasks single runs; run \`bash tools/train.sh --gpus N ...\` without srun in the allocation"
}

refuse_srun
if [ -n "$hostfile" ]; then
    check_hosts
    machines=$hostfile
fi
[ "$count" -gt 1 ] && check_mpi
find_environment
[ -n "$devices" ] && [ -z "$machines" ] && check_devices     # elsewhere each process looks at its own machine
[ "$count" = 1 ] && exec "$python" "$root/tools/train.py" "${arguments[@]}"
[ -n "$devices" ] && export IIDM_GPUS=1
options=(-np "$count" --bind-to none)
if [ -n "$machines" ]; then                     # mpirun passes on no variables to other machines by itself
    [ -n "$hostfile" ] && options+=(--hostfile "$hostfile")
    options+=(--map-by slot)
    for name in PATH LD_LIBRARY_PATH VIRTUAL_ENV OMP_NUM_THREADS MKL_NUM_THREADS IIDM_GPUS JITTOR_HOME cache_name \
        nvcc_path use_nccl use_mkl mpicc_path cc_path DNNL_MAX_CPU_ISA; do
        [ -n "${!name+set}" ] && options+=(-x "$name")
    done
else
    options+=(--oversubscribe)
fi
[ "$EUID" = 0 ] && options+=(--allow-run-as-root)
mpirun --quiet "${options[@]}" "$python" "$root/tools/train.py" "${arguments[@]}" &
# A SIGTERM to mpirun would end the processes within a second; this signal it passes on, and they save.
trap 'kill -USR1 $!' TERM
wait $!
status=$?
while kill -0 $! 2>/dev/null; do                # the wait ends with a trapped signal, too
    wait $!
    status=$?
done
# Status 1 or 255: mpirun's own, such as for a machine that it does not reach; --quiet hides its reasons.
[ -n "$machines" ] && [[ $status = 1 || $status = 255 ]] &&
    fail "mpirun: ended with status $status; run \`mpirun${hostfile:+ --hostfile $hostfile} -np $count hostname\`, which says why"
exit $status
