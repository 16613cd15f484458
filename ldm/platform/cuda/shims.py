"""The headers and the nvcc script with which Jittor's sources, written for CUDA 12, compile on CUDA 13.

Each text is a file of the toolchain folder. `REASONS` says why it is there.
"""
from __future__ import annotations

from pathlib import Path

REASONS = {
    "bin/nvcc": "passes Jittor's -std=c++14 on as c++17, which CUDA 13's own headers need; being a script "
                "and no link, it makes Jittor look for headers and libraries beside it",
    "include/cudnn.h": "cuDNN 9 dropped ten RNN functions that Jittor names; these say 'not supported'",
    "include/cub/cub.cuh": "CUDA 13 dropped five names of cub in favour of thrust's and libcu++'s",
    "include/npp.h": "Jittor includes it for eight integer limits; the wheels have no NPP",
    "lib64/libcudnn_*_infer.so, _train.so": "the names of cuDNN 8; cuDNN 9 has one library for each pair",
    "lib64/lib*.so": "names without a version, which Jittor opens and links; the wheels have none",
}
SPLIT_CUDNN = {f"lib64/libcudnn_{part}_{use}.so": f"libcudnn_{part}.so"
               for part in ("ops", "cnn") for use in ("infer", "train")}
_DROPPED_RNN = ("cudnnSetRNNDescriptor_v6", "cudnnGetRNNParamsSize", "cudnnGetRNNWorkspaceSize",
                "cudnnGetRNNTrainingReserveSize", "cudnnGetRNNLinLayerMatrixParams",
                "cudnnGetRNNLinLayerBiasParams", "cudnnRNNForwardTraining", "cudnnRNNForwardInference",
                "cudnnRNNBackwardData", "cudnnRNNBackwardWeights")


def nvcc(real: Path) -> str:
    """A script that calls the nvcc at `real`, with C++17 in place of C++14 and older.

    Jittor also passes Microsoft's form of the option, which g++ refuses.
    """
    return f"""#!/bin/sh
for word do
    shift
    case $word in -std=c++11|-std=c++14|-std:c++14) word=-std=c++17 ;; esac
    set -- "$@" "$word"
done
exec "{real}" "$@"
"""


def cudnn_header(real: Path) -> str:
    """cudnn.h: it includes the header at `real` and adds the RNN functions that cuDNN 9 dropped."""
    functions = "\n".join(f"template <class... T> inline cudnnStatus_t {name}(T&&...) "
                          "{ return CUDNN_STATUS_NOT_SUPPORTED; }" for name in _DROPPED_RNN)
    return f'#pragma once\n#include "{real}"\n#ifdef __cplusplus\n{functions}\n#endif\n'


CUB_HEADER = """#pragma once
#include_next <cub/cub.cuh>
#include <cuda/functional>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
namespace cub {
template <class T, class Offset = ptrdiff_t>
using CountingInputIterator = thrust::counting_iterator<T>;
template <class Value, class Function, class Input, class Offset = ptrdiff_t>
using TransformInputIterator = thrust::transform_iterator<Function, Input, Value, Value>;
using Max = ::cuda::maximum<>;
using Min = ::cuda::minimum<>;
using Sum = ::cuda::std::plus<>;
static __device__ __forceinline__ unsigned int LaneId() {
    unsigned int lane;
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}
}
"""

NPP_HEADER = """#pragma once
#define NPP_MIN_32U (0)
#define NPP_MAX_32U (4294967295U)
#define NPP_MIN_32S (-2147483647 - 1)
#define NPP_MAX_32S (2147483647)
#define NPP_MIN_64U (0)
#define NPP_MAX_64U (18446744073709551615ULL)
#define NPP_MIN_64S (-9223372036854775807LL - 1)
#define NPP_MAX_64S (9223372036854775807LL)
"""
