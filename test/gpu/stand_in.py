"""Build stand-ins for the CUDA runtime and its libraries (stand_in.cc), for where there is no device."""
import re
import subprocess
from pathlib import Path

LIBRARIES = ("cudart", "cublas", "cudnn", "curand", "cufft", "cusparse")


def _said(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


def _functions(library, *options):
    """Names of the CUDA functions that a shared library or an object file defines."""
    names = r" T ((?:__cuda|cuda|cublas|cudnn|curand|cufft|cusparse)\w+)"
    return set(re.findall(names, _said("nm", *options, library)))


def build(toolchain, folder):
    """Compile the stand-ins into `folder`, for the toolchain folder of tools/setup_cuda.py. -> their paths.

    Each has every function of the real library: those of stand_in.cc, and the rest return 0, success. To be
    preloaded: the loader takes them for the real ones by the name and the version that are written in them.
    """
    folder, compiled, made = Path(folder), Path(folder, "stand_in.o"), []
    source = Path(__file__).with_name("stand_in.cc")
    _said("g++", "-fPIC", "-c", f"-I{toolchain}/include", source, "-o", compiled)
    for name in LIBRARIES:
        real = toolchain / f"lib64/lib{name}.so"
        soname = re.search(r"SONAME\s+(\S+)", _said("objdump", "-p", real))[1]
        rest, versions = folder / f"{name}.c", folder / f"{name}.map"
        names = sorted(_functions(real, "-D", "--defined-only") - _functions(compiled))
        rest.write_text("".join(f"long {function}(void) {{ return 0; }}\n" for function in names))
        versions.write_text(f"{soname} {{ global: *; }};\n")
        made.append(folder / soname)
        _said("g++", "-shared", "-fPIC", f"-Wl,-soname,{soname},--version-script,{versions}",
              compiled, "-x", "c", rest, "-o", made[-1])
    return made
