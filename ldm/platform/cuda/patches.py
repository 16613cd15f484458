"""The patches without which Jittor computes wrong numbers with cuDNN, or does not build with cuDNN 9."""
from __future__ import annotations

from ldm.platform.patch import Facts, Patch


def _cudnn(facts: Facts) -> bool:
    return facts.cudnn is not None


def _cudnn_9(facts: Facts) -> bool:
    return facts.cudnn is not None and facts.cudnn >= (9,)


def _convolution(name: str, sha256: str) -> Patch:
    """fp32 convolutions are TF32 by cuDNN's default, whatever use_tensorcore says; and an algorithm once
    found for a shape is taken for every precision, though it need not exist there."""
    return Patch(f"jittor/extern/cuda/cudnn/ops/cudnn_{name}_op.cc", sha256, (
        ("CORRELATION, getDataType<Ty>()", "CORRELATION, CUDNN_DATA_FLOAT"),
        ("    if(use_tensorcore){\n",
         "    if (!use_tensorcore && getDataType<Ty>() == CUDNN_DATA_FLOAT)\n"
         "        checkCudaErrors( cudnnSetConvolutionMathType(cudnnConvDesc, CUDNN_FMA_MATH) );\n"
         "    if (use_tensorcore > 1) {\n"),
        ("    jk.clear();\n    jk << dimX[0]",
         "    jk.clear();\n    jk << (int)getDataType<Ty>() << \",\" << use_tensorcore << \",\";\n"
         "    jk << dimX[0]"),
    ), "sums are kept in fp32, fp32 is TF32 only if asked for, algorithms are remembered by precision",
        _cudnn)


PATCHES = (
    Patch("jittor/extern/cuda/inc/helper_cuda.h",
          "5faa2b18470a970658cfc0b70504f98aa6fb85695b2a116408895ad11edc57da",
          (("deviceProp.computeMode", "0 /* computeMode */"), ("deviceProp.clockRate", "1 /* clockRate */")),
          "CUDA 13 dropped these two properties of a device; functions that Jittor never calls read them",
          _cudnn_9),
    Patch("jittor/src/ops/transpose_op.cc",
          "baf81a3a12da245feab4acaf67904a4b3f73393758528496c58e249994d02067",
          (("cutt_transpose(x, axes);\n            forward(var);\n            return;\n        }\n",
            "cutt_transpose(x, axes);\n            forward(var);\n            return;\n        }\n"
            "        static VarPtr(*fused)(Var*, NanoVector) = get_op_info(\"fuse_transpose\")\n"
            "            .get_constructor<VarPtr, Var*, NanoVector>();\n"
            "        auto var = fused(x, axes);\n        forward(var);\n        return;\n"),),
          "without cuTT, which is not built here, a transpose of the last axis would run on the CPU",
          _cudnn),
    Patch("jittor/compiler.py", "3398b120fb43014db85d0beaccfc9775088956e46cec0b16cf62cd8581dd6898",
          (("    max_arch = 90\n",
            "    max_arch = 121 if nvcc_version >= [13] else 120 if nvcc_version >= [12, 8] else 90\n"),),
          "kernels for newer devices than sm_90 would be built as sm_90, which those cannot load",
          _cudnn),
    Patch("jittor/nn.py", "78294cb78ca909f5d19ddd39954a79fdaf8b30aa6a08bf106e4517e50ea30954",
          (("        if jt.flags.use_cuda and jt.cudnn and self.proj_size == 0 and jt.compiler.is_cuda:",
            "        if False:    # cuDNN 9 has no such RNN; it is done operator by operator"),),
          "cuDNN 9 dropped the functions of Jittor's RNN layers",
          _cudnn_9),
    _convolution("conv", "3696b717163b5e33ca34b8ecd30eef44304ed7282acca6b3a6ed8b4e36b620c1"),
    _convolution("conv_backward_x", "68af1f0e4ae17af352fe596ee1a292425476e6e55c30ba8a28b87bf0109e8687"),
    _convolution("conv_backward_w", "8dad2492b19e87215e8e2c08117d6c28d8233512a7a509e90434341dec3c217a"),
    _convolution("conv3d", "9b85d3b486bacfe1466b7033962ccb63d9036bc716b84870a16ca7c3f96d7c35"),
    _convolution("conv3d_backward_x", "8f5ec589922180112344e557864ffa4bc4c0257cdd05de782f6ce06d9db760a5"),
    _convolution("conv3d_backward_w", "79d62d0f16d44a90c7f44ddca2821875b0e47ce602e427a0d6ca9f3d99d9a1e3"),
)

# What versions before the copy changed in the installed Jittor: needed to undo that. To go on from one of
# these, add a Patch above and leave this list as it is.
EARLIER = PATCHES
