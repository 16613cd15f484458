"""All patches of Jittor 1.3.11, and which of them a machine needs."""
from __future__ import annotations

from typing import Iterable

from ldm.platform.cuda.patches import PATCHES as CUDA
from ldm.platform.patch import Facts, Patch


def _numpy_2(facts: Facts) -> bool:
    return facts.numpy >= (2,)


NUMPY = (
    Patch("jittor/src/pyjt/numpy.h", "2d2d09539972b6a056aa6910b654f115704c777f1f923819f855f30376d19556",
          (("struct PyArray_Proxy {",
            "struct PyArrayDescr2_Proxy {\n"
            "    PyObject_HEAD\n"
            "    PyObject* typeobj;\n"
            "    char kind, type, byteorder, former_flags;\n"
            "    int type_num;\n"
            "    unsigned long long flags;\n"
            "    Py_ssize_t elsize, alignment;\n"
            "};\n\n"
            "struct PyArray_Proxy {"),
           ("size *= arr->descr->elsize;",
            "size *= PyArray_GetNDArrayCFeatureVersion() >= 0x12\n"
            "        ? ((PyArrayDescr2_Proxy*)arr->descr)->elsize : arr->descr->elsize;")),
          "numpy 2 keeps the size of an element at another place", _numpy_2, everywhere=True),
    Patch("jittor/src/pyjt/numpy.cc", "1bdec1b2c8e2599775116982634e7a6f0530479cdc64cb4d1bb1032d359c386e",
          (('    PyObjHolder np(PyImport_ImportModule("numpy.core.multiarray"), "numpy is not installed");\n',
            '    PyObject* module = PyImport_ImportModule("numpy._core.multiarray");\n'
            "    if (!module) {\n"
            "        PyErr_Clear();\n"
            '        module = PyImport_ImportModule("numpy.core.multiarray");\n'
            "    }\n"
            '    PyObjHolder np(module, "numpy is not installed");\n'),
           ("    fill(PyArray_CopyInto, 82);\n",
            "    fill(PyArray_CopyInto, PyArray_GetNDArrayCFeatureVersion() >= 0x12 ? 50 : 82);\n")),
          "numpy 2 has another module and another place for a function", _numpy_2, everywhere=True),
    Patch("jittor/src/pyjt/py_converter.h",
          "188a8301c4cb2da46a4ffd36e49e23e3c5826a9f0de40bccacb34e8888262607",
          (("        PyArrayDescr_Proxy array_descr;\n"
            "        array_descr.type_num = 5; // 5: int32\n"
            "        int value;\n"
            "        PyArray_CastScalarToCtype(obj, &value, &array_descr);\n"
            "        var_slice->set_int(value);\n",
            "        PyObjHolder value(PyNumber_Long(obj));\n"
            "        var_slice->set_int(PyLong_AsLong(value.obj));\n"),),
          "numpy 2 reads all of a description that Jittor fills in part, for a numpy number as an index",
          _numpy_2, everywhere=True),
)

PYTHON = (
    Patch("jittor/compiler.py", "3398b120fb43014db85d0beaccfc9775088956e46cec0b16cf62cd8581dd6898",
          (("    mod = locals()[gen_name]\n", "    mod = sys.modules[gen_name]\n"),),
          "Python 3.13 keeps what exec() defines out of locals()", lambda facts: facts.python >= (3, 13),
          everywhere=True),
    Patch("jittor_utils/__init__.py", "d05495d9890cd83f3a83035fff7d9296155c53495d5ddf40fff3b1429896c91c",
          (("    mod = locals()[hash]\n", "    mod = sys.modules[hash]\n"),
           ("        p = Pool(pool_size, initializer=pool_initializer)\n",
            "        p = mp.get_context('fork').Pool(pool_size, initializer=pool_initializer)\n")),
          "Python 3.13 does the same there; 3.14 would run the user's program again to compile",
          lambda facts: facts.python >= (3, 13), everywhere=True),
)

MPI = (
    Patch("jittor/extern/mpi/src/mpi_wrapper.cc",
          "9581c984a8d448be7126d421433d4dd2c2dbdc37bab008b8be4a5e6f73fb9364",
          (("    uint64_t hostHashs[mpi_world_rank];\n", "    uint64_t hostHashs[mpi_world_size];\n"),),
          "every process of an MPI run would write beyond the end of an array", lambda facts: facts.mpi,
          everywhere=True),
)

COMPILER = (
    # Tried: g++ 12 compiles the core without, g++ 16 does not. So far it is no reason for a copy by itself:
    # systems with such a compiler have a Python that needs one.
    Patch("jittor/src/types.h", "67dba6078a15cc6736b09e8bdce0b9420b860bb1bfc828f3b3485295811caf1c",
          (("#pragma once\n#include <vector>\n", "#pragma once\n#include <cstdint>\n#include <vector>\n"),),
          "the headers of new compilers no longer include this one by themselves", lambda facts: False,
          everywhere=True),
)

PATCHES = NUMPY + PYTHON + MPI + COMPILER + CUDA


def needed(facts: Facts, patches: Iterable[Patch] = PATCHES) -> list[Patch]:
    """The patches without which Jittor does not work with `facts`."""
    return [patch for patch in patches if patch.needed(facts)]


def chosen(facts: Facts, patches: Iterable[Patch] = PATCHES) -> list[Patch]:
    """The patches of a copy made for `facts`; none if the installed Jittor works without them.

    MPI's alone change nothing of the core, so that its copy takes over the installed Jittor's (reuse.py).
    """
    wanted = needed(facts, patches)
    if all(patch in MPI for patch in wanted):
        return wanted
    return [patch for patch in patches if patch.everywhere or patch.needed(facts)]
