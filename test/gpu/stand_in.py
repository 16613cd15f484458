#!/usr/bin/env python
"""Run a command over stand-ins for the CUDA runtime and its libraries, where there is no device.

    python test/gpu/stand_in.py [--arch 90] COMMAND ...

The command and what it starts see a device /dev/nvidia0 whose memory is the host's and whose kernels do
nothing (see stand_in.cc, which also says what can be set in the environment). Numbers and times mean nothing.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = ("cudart", "cublas", "cudnn", "curand", "cufft", "cusparse")
DRIVER = """
#include <stdlib.h>
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) {
    const char *device = getenv("STAND_IN_DEVICE");
    return *version = device && !strcmp(device, "old") ? 10020 : 13000, 0;
}
"""
# Python reads this at its start: the device has a name, as the kernel's driver would give it one.
SITE = """
import pathlib
_glob = pathlib.Path.glob
def glob(self, pattern, **options):
    if str(self) == "/dev" and pattern.startswith("nvidia"):
        return iter([pathlib.Path("/dev/nvidia0")])
    return _glob(self, pattern, **options)
pathlib.Path.glob = glob
"""


def _said(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


def _functions(library, *options):
    """Names of the CUDA functions that a shared library or an object file defines."""
    names = r" T ((?:__cuda|cuda|cublas|cudnn|curand|cufft|cusparse)\w+)"
    return set(re.findall(names, _said("nm", *options, library)))


def build(cuda, folder):
    """Compile the stand-ins into `folder`, for a folder with CUDA's include and lib64. -> their paths.

    Each has every function of the real library: those of stand_in.cc, and the rest return 0, success. To be
    preloaded: the loader takes them for the real ones by the name and the version that are written in them.
    """
    folder, compiled, made = Path(folder), Path(folder, "stand_in.o"), []
    source = Path(__file__).with_name("stand_in.cc")
    _said("g++", "-fPIC", "-c", f"-I{cuda}/include", source, "-o", compiled)
    for name in LIBRARIES:
        real = cuda / f"lib64/lib{name}.so"
        soname = re.search(r"SONAME\s+(\S+)", _said("objdump", "-p", real))[1]
        rest, versions = folder / f"{name}.c", folder / f"{name}.map"
        names = sorted(_functions(real, "-D", "--defined-only") - _functions(compiled))
        rest.write_text("".join(f"long {function}(void) {{ return 0; }}\n" for function in names))
        versions.write_text(f"{soname} {{ global: *; }};\n")
        made.append(folder / soname)
        _said("g++", "-shared", "-fPIC", f"-Wl,-soname,{soname},--version-script,{versions}",
              compiled, "-x", "c", rest, "-o", made[-1])
    return made


def cuda_folder():
    """The folder with the bin, include and lib64 of the CUDA that Jittor is given here: what
    tools/setup_cuda.py made, or a toolkit that needs no set-up. UserError where there is neither."""
    from ldm.errors import UserError
    from ldm.platform.cache import cache_folder
    from ldm.platform.cuda import toolchain, toolkit
    made = toolchain.folder(cache_folder())
    if "nvcc_path" not in os.environ and toolchain.record(made) is not None:
        return made
    found = toolkit.find_toolkit()
    if found is None or not toolkit.needs_no_toolchain(found):
        raise UserError("CUDA", "is not set up", "run `python tools/setup_cuda.py` first")
    return found.home


def environment(cuda, folder, arch):
    """The variables under which a process takes the stand-ins for what the folder `cuda` holds. They are made
    in `folder`, for a device of this compute capability (90 is 9.0)."""
    preloaded = build(Path(cuda), folder)
    driver, site = Path(folder, "libcuda.so.1"), Path(folder, "site")
    source = Path(folder, "driver.c")
    source.write_text(DRIVER)
    _said("gcc", "-shared", "-fPIC", f"-Wl,-soname,{driver.name}", source, "-o", driver)
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)

    def with_folder(variable, first):
        return os.pathsep.join(filter(None, (str(first), os.environ.get(variable))))

    return {"LD_PRELOAD": " ".join(map(str, preloaded)), "cuda_archs": str(arch),
            "nvcc_path": str(Path(cuda, "bin/nvcc")),
            "LD_LIBRARY_PATH": with_folder("LD_LIBRARY_PATH", folder),
            "PYTHONPATH": with_folder("PYTHONPATH", site)}


def main():
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", type=int, default=90, help="compute capability without its point")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    cuda = cuda_folder()
    with tempfile.TemporaryDirectory() as folder:
        variables = environment(cuda, folder, args.arch)
        return subprocess.run(args.command, env={**os.environ, **variables}).returncode


if __name__ == "__main__":
    sys.exit(main())
