#!/usr/bin/env python
"""Compile and load every kernel of the networks for a device that need not be there.

Needs nvcc and what tools/setup_cuda.py made; or CUDA 11 or 12 with cuDNN 8, which needs no set-up and may
come from get_cuda.sh. The networks run as on a device, over a stand-in for CUDA's runtime: Jittor compiles
each operator by nvcc, loads it, and launches it into nothing. So this shows that everything compiles, links
and loads, what cuDNN is asked to calculate with, and what happens where memory ends, a launch fails, there is
no device, or its driver is old; it shows no number, and no speed.
"""
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[i]) for i in (1, 2)]
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import cli  # noqa: E402
import stand_in  # noqa: E402

from ldm.platform import runtime  # noqa: E402
from ldm.platform.cuda import toolkit  # noqa: E402

NAMES = ("unet", "unet_training", "checkpointed_training", "autoencoder", "autoencoder_training",
         "half_precision", "running_out_of_memory", "memory_that_ends", "memory_that_others_have",
         "failing_launches", "many_shapes", "precisions", "custom_kernel", "judges",
         "single_operators")                    # of workloads.py, which imports Jittor
# Those that need a process of their own, and what is set in it.
ALONE = {name: {"STAND_IN_MEMORY": str(4 * 2 ** 30)}
         for name in ("memory_that_ends", "memory_that_others_have")}
# What there can be of a device, and what the self-test of doctor.py says of it.
DEVICES = {"none": (0, "a convolution on CPU"), "old": (2, "NVIDIA driver: supports CUDA up to 10.2")}


def parse(argv):
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--arch", type=int, default=90, help="compute capability without its point")
    parser.add_argument("--work", nargs="+", choices=NAMES, default=list(NAMES), help="what to run")
    parser.add_argument("--child", action="store_true", help="run here and now, over a stand-in preloaded")
    return parser.parse_args(argv)


def kernels(folder):
    """{compiled operator: whether device code is in it} below Jittor's cache for this device."""
    return {path: b"__cudaRegisterFunction" in path.read_bytes() for path in Path(folder, "jit").glob("*.so")}


def run_here(names):
    """Run each named piece of work and say what was compiled for it."""
    jittor = runtime.load()
    import workloads
    from jittor.compiler import cache_path
    known = kernels(cache_path)
    for name in names:
        start, cpu = time.perf_counter(), os.times()
        getattr(workloads, name)()
        jittor.sync_all(True)
        now = kernels(cache_path)
        fresh = [device for path, device in now.items() if path not in known]
        after = os.times()
        spent = sum(after[:4]) - sum(cpu[:4])
        print(f"{name:22} {len(fresh):4} operators compiled, {sum(fresh):4} of them with device code; "
              f"{time.perf_counter() - start:6.1f} s, {spent:6.1f} s of CPU", flush=True)
        known = now
    print(f"{'in the cache':22} {len(known):4} operators, {sum(known.values()):4} of them with device code")


def run_children(names, arch):
    folder = stand_in.cuda_folder()
    found = toolkit.find_toolkit()
    cudnn = (toolkit.stock_cudnn if toolkit.needs_no_toolchain(found) else toolkit.find_cudnn)(found)
    versions = [toolkit.dotted(part.version) for part in (found, cudnn)]
    print("CUDA {}, cuDNN {} in".format(*versions), folder, flush=True)
    together = [name for name in names if name not in ALONE]
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, **stand_in.environment(folder, scratch, arch),
                       "STAND_IN_REPORT": str(Path(scratch, "report"))}
        failed = run_child(together, environment) if together else 0
        for name in (name for name in names if name in ALONE):
            failed |= run_child([name], {**environment, **ALONE[name]})
        for kind in DEVICES if names == list(NAMES) else ():
            failed |= check_device(kind, environment)
    return failed


def run_child(names, environment):
    """Run such work in a process of its own. -> its exit status."""
    report = Path(environment["STAND_IN_REPORT"])
    report.write_text("")
    status = subprocess.run([sys.executable, __file__, "--child", "--work", *names],
                            env=environment).returncode
    said = sum((Counter(json.loads(line)) for line in report.read_text().splitlines()), Counter())
    print(", ".join(f"{count} {name}" for name, count in said.items()), flush=True)
    return status


def check_device(kind, environment):
    """Does a machine without a device, or with an old driver, end in one line or compute on the CPU?"""
    expected, text = DEVICES[kind]
    child = subprocess.run([sys.executable, Path(cli.__file__).with_name("doctor.py")], capture_output=True,
                           text=True, env={**environment, "STAND_IN_DEVICE": kind})
    good = child.returncode == expected and text in child.stdout + child.stderr and \
        "Traceback" not in child.stderr
    print(f"device: {kind}: {'as it should be' if good else child.stdout + child.stderr}", flush=True)
    return int(not good)


def main(argv=None):
    args = parse(argv)
    return run_here(args.work) if args.child else run_children(args.work, args.arch)


if __name__ == "__main__":
    cli.run(main)
