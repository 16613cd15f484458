// Every kernel of ldm/networks/cuda in every type that it is used in, to see what nvcc makes of it:
//   nvcc -std=c++14 -O2 --use_fast_math -arch=sm_90 -Xptxas -v -cubin -o /dev/null -I ldm/networks/cuda \
//       test/gpu/kernels.cu
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cstdint>
#include <type_traits>
#include "normalization.h"

template <class X, class G>
void every(X* x, G* map, float* numbers, iidm::Shape s) {
    auto launch = [](auto kernel, int x, int y, int z, int threads, auto... arguments) {
        kernel<<<dim3(x, y, z), threads>>>(arguments...);
    };
    iidm::normalize(launch, iidm::THREADS, x, map, map, numbers, x, numbers, numbers, s);
}
template void every(float*, float*, float*, iidm::Shape);
template void every(__half*, __half*, float*, iidm::Shape);
template void every(__half*, float*, float*, iidm::Shape);
template void every(__nv_bfloat16*, __nv_bfloat16*, float*, iidm::Shape);
template void every(__nv_bfloat16*, float*, float*, iidm::Shape);
