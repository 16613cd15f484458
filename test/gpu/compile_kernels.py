#!/usr/bin/env python
"""Compile and load every kernel of the networks for a device that need not be there.

Needs nvcc and what tools/setup_cuda.py made. The networks run as on a device, over a stand-in for CUDA's
runtime: Jittor compiles each operator by nvcc, loads it, and launches it into nothing. So this shows that
everything compiles, links and loads; it shows no number, and no speed.
"""
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[i]) for i in (1, 2)]
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import cli  # noqa: E402
import stand_in  # noqa: E402

from ldm.errors import UserError  # noqa: E402
from ldm.platform import runtime  # noqa: E402
from ldm.platform.cache import cache_folder  # noqa: E402
from ldm.platform.cuda import toolchain  # noqa: E402

NAMES = ("unet", "unet_training", "checkpointed_training", "autoencoder", "autoencoder_training",
         "half_precision", "running_out_of_memory", "custom_kernel", "judges",
         "single_operators")                    # of workloads.py, which imports Jittor


def parse():
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--arch", type=int, default=90, help="compute capability without its point")
    parser.add_argument("--work", nargs="+", choices=NAMES, default=list(NAMES), help="what to run")
    parser.add_argument("--child", action="store_true", help="run here and now, over a stand-in preloaded")
    return parser.parse_args()


def kernels(folder):
    """{compiled operator: whether device code is in it} below Jittor's cache for this device."""
    return {path: b"__cudaRegisterFunction" in path.read_bytes() for path in Path(folder, "jit").glob("*.so")}


def run_here(names):
    """Run each named piece of work and say what was compiled for it."""
    runtime.visible_devices = lambda: ["0"]
    jittor = runtime.load()
    jittor.flags.use_cuda = 1
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


def run_child(names, arch):
    folder = toolchain.folder(cache_folder())
    facts = toolchain.record(folder)
    if facts is None:
        raise UserError(folder, "is not there", "run `python tools/setup_cuda.py` first")
    print(json.dumps(facts))
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report")
        preloaded = " ".join(map(str, stand_in.build(folder, scratch)))
        environment = {**os.environ, "LD_PRELOAD": preloaded, "cuda_archs": str(arch),
                       "STAND_IN_REPORT": str(report)}
        command = [sys.executable, __file__, "--child", "--work", *names]
        for _ in range(3):                      # a changed flag ends Jittor's import with "please rerun"
            status = subprocess.run(command, env=environment).returncode
            if report.exists():
                break
        if status == 0:
            functions, count = report.read_text().split()
            print(f"{functions} device functions were launched, {count} times")
    return status


def main():
    args = parse()
    return run_here(args.work) if args.child else run_child(args.work, args.arch)


if __name__ == "__main__":
    cli.run(main)
