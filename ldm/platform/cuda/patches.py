"""The changes to an installed Jittor without which it does not build, or is wrong, on CUDA 13 and cuDNN 9.

A patch names the file, the SHA-256 of that file in Jittor 1.3.11.0, and pairs (before, after) of text. The
hash decides: a file is the original, or becomes the original when the pairs are exchanged back, and any
other is refused. So no copy of the originals has to be kept, and an undone file is the original byte by byte.
"""
import contextlib
import dataclasses
import hashlib
import importlib.util
import re
import shutil
from pathlib import Path

from ldm.errors import UserError
from ldm.files import replacing

VERSION = "1.3.11.0"
REINSTALL = f"run `pip install --force-reinstall --no-deps jittor=={VERSION}`"


@dataclasses.dataclass(frozen=True)
class Patch:
    """Changes of one file below the jittor package; `edits` may occur several times in it."""
    path: str
    sha256: str
    edits: tuple
    why: str

    def forth(self, text):
        for before, after in self.edits:
            text = text.replace(before.encode(), after.encode())
        return text

    def back(self, text):
        for before, after in self.edits:
            text = text.replace(after.encode(), before.encode())
        return text


def _convolution(name, sha256):
    """fp32 convolutions are TF32 by cuDNN's default, whatever use_tensorcore says; and an algorithm once
    found for a shape is taken for every precision, though it need not exist there."""
    return Patch(f"extern/cuda/cudnn/ops/cudnn_{name}_op.cc", sha256, (
        ("CORRELATION, getDataType<Ty>()", "CORRELATION, CUDNN_DATA_FLOAT"),
        ("    if(use_tensorcore){\n",
         "    if (!use_tensorcore && getDataType<Ty>() == CUDNN_DATA_FLOAT)\n"
         "        checkCudaErrors( cudnnSetConvolutionMathType(cudnnConvDesc, CUDNN_FMA_MATH) );\n"
         "    if (use_tensorcore > 1) {\n"),
        ("    jk.clear();\n    jk << dimX[0]",
         "    jk.clear();\n    jk << (int)getDataType<Ty>() << \",\" << use_tensorcore << \",\";\n"
         "    jk << dimX[0]"),
    ), "sums are kept in fp32, fp32 is TF32 only if asked for, algorithms are remembered by precision")


PATCHES = (
    Patch("extern/cuda/inc/helper_cuda.h", "5faa2b18470a970658cfc0b70504f98aa6fb85695b2a116408895ad11edc57da",
          (("deviceProp.computeMode", "0 /* computeMode */"), ("deviceProp.clockRate", "1 /* clockRate */")),
          "CUDA 13 dropped these two properties of a device; functions that Jittor never calls read them"),
    Patch("src/ops/transpose_op.cc", "baf81a3a12da245feab4acaf67904a4b3f73393758528496c58e249994d02067",
          (("cutt_transpose(x, axes);\n            forward(var);\n            return;\n        }\n",
            "cutt_transpose(x, axes);\n            forward(var);\n            return;\n        }\n"
            "        static VarPtr(*fused)(Var*, NanoVector) = get_op_info(\"fuse_transpose\")\n"
            "            .get_constructor<VarPtr, Var*, NanoVector>();\n"
            "        auto var = fused(x, axes);\n        forward(var);\n        return;\n"),),
          "without cuTT, which is not built here, a transpose of the last axis would run on the CPU"),
    Patch("compiler.py", "3398b120fb43014db85d0beaccfc9775088956e46cec0b16cf62cd8581dd6898",
          (("    max_arch = 90\n",
            "    max_arch = 121 if nvcc_version >= [13] else 120 if nvcc_version >= [12, 8] else 90\n"),),
          "kernels for newer devices than sm_90 would be built as sm_90, which those cannot load"),
    Patch("nn.py", "78294cb78ca909f5d19ddd39954a79fdaf8b30aa6a08bf106e4517e50ea30954",
          (("        if jt.flags.use_cuda and jt.cudnn and self.proj_size == 0 and jt.compiler.is_cuda:",
            "        if False:    # cuDNN 9 has no such RNN; it is done operator by operator"),),
          "cuDNN 9 dropped the functions of Jittor's RNN layers"),
    _convolution("conv", "3696b717163b5e33ca34b8ecd30eef44304ed7282acca6b3a6ed8b4e36b620c1"),
    _convolution("conv_backward_x", "68af1f0e4ae17af352fe596ee1a292425476e6e55c30ba8a28b87bf0109e8687"),
    _convolution("conv_backward_w", "8dad2492b19e87215e8e2c08117d6c28d8233512a7a509e90434341dec3c217a"),
    _convolution("conv3d", "9b85d3b486bacfe1466b7033962ccb63d9036bc716b84870a16ca7c3f96d7c35"),
    _convolution("conv3d_backward_x", "8f5ec589922180112344e557864ffa4bc4c0257cdd05de782f6ce06d9db760a5"),
    _convolution("conv3d_backward_w", "79d62d0f16d44a90c7f44ddca2821875b0e47ce602e427a0d6ca9f3d99d9a1e3"),
)


def installed():
    """The folder of this Python's jittor package, found without importing it."""
    spec = importlib.util.find_spec("jittor")
    if spec is None or spec.origin is None:
        raise UserError("jittor", "is not installed in this Python", "run `pip install -r requirements.txt`")
    return Path(spec.origin).parent


def version(root):
    """The version that the jittor package in `root` says it is."""
    try:
        found = re.search(r"^__version__ = '([^']+)'", (root / "__init__.py").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else "of unknown version"


def _read(root, patch):
    """-> (the original text, the patched text, which of the two the file is now)."""
    path = root / patch.path
    try:
        text = path.read_bytes()
    except OSError as e:
        raise UserError(path, f"cannot be read ({e.strerror or e})", REINSTALL)
    original = patch.back(text)
    patched = patch.forth(original)
    if hashlib.sha256(original).hexdigest() != patch.sha256 or text not in (original, patched):
        raise UserError(path, f"is not the file of Jittor {VERSION}", REINSTALL)
    return original, patched, text


def _check_version(root):
    if version(root) != VERSION:
        raise UserError(root, f"is Jittor {version(root)}", f"the patches are made for exactly {VERSION}")


def pending(root):
    """The patches that the Jittor in `root` does not have yet. UserError: another version, a foreign file."""
    _check_version(root)
    return [patch for patch in PATCHES if (files := _read(root, patch))[2] != files[1]]


def _rewrite(root, wanted):
    """Make every file what `wanted`, 0 for the original and 1 for the patched, says. -> the patches changed.

    All new texts lie on the disk before the first is renamed to its place.
    """
    changes = [(patch, files[wanted]) for patch in PATCHES
               if (files := _read(root, patch))[2] != files[wanted]]
    try:
        with contextlib.ExitStack() as stack:
            for patch, text in changes:
                path = root / patch.path
                temporary = stack.enter_context(replacing(path))
                temporary.write_bytes(text)
                shutil.copymode(path, temporary)
    except UserError as e:
        reason = getattr(e.__context__, "strerror", None) or e
        raise UserError(root, f"cannot be written ({reason})",
                        "use a Jittor of your own: `python -m venv .venv`, "
                        "`.venv/bin/pip install -r requirements.txt`") from e
    return [patch for patch, _ in changes]


def apply(root):
    """Patch the Jittor in `root`; files patched before stay as they are. -> the patches applied now."""
    _check_version(root)
    return _rewrite(root, wanted=1)


def undo(root):
    """Give the Jittor in `root` its own files back. -> the patches taken away; another version has none."""
    return _rewrite(root, wanted=0) if version(root) == VERSION else []
