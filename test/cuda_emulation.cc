// The kernels of ldm/networks/cuda on the CPU: block by block, with a thread of the machine for each of
// a block's. What they read and write of x, y and the maps is counted.
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#define __global__
#define __host__
#define __device__
#define __shared__ static                       // blocks run one after the other

struct Dim {
    unsigned x = 1, y = 1, z = 1;
};
static thread_local Dim threadIdx, blockIdx;
static Dim blockDim, gridDim;
static std::unique_ptr<std::barrier<>> meeting;

static void __syncthreads() { meeting->arrive_and_wait(); }

// ---- numbers that count ----------------------------------------------------------------------------------

static std::atomic<int64_t> loads, stores;

// bfloat16, rounded to nearest even.
struct Brief {
    uint16_t bits;
    Brief() = default;
    explicit Brief(float value) {
        uint32_t all;
        memcpy(&all, &value, 4);
        bits = (all + 0x7fff + (all >> 16 & 1)) >> 16;
    }
    operator float() const {
        uint32_t all = uint32_t(bits) << 16;
        float value;
        memcpy(&value, &all, 4);
        return value;
    }
};

// A copy is a load or a store: the kernels copy numbers from and to memory only.
template <class T>
struct Counted {
    T value;
    Counted() = default;
    explicit Counted(float given) : value(given) {}
    explicit operator float() const { return float(value); }
    Counted(const Counted& from) : value(from.value) { loads++; }
    Counted& operator=(const Counted& from) { value = from.value; stores++; return *this; }
    Counted& operator=(Counted&& made) { value = made.value; return *this; }       // within registers
};

#include "normalization.h"

// ---- launches --------------------------------------------------------------------------------------------

struct Launch {
    template <class Kernel, class... Arguments>
    void operator()(Kernel kernel, int x, int y, int z, int threads, Arguments... arguments) {
        gridDim = {unsigned(x), unsigned(y), unsigned(z)}, blockDim = {unsigned(threads)};
        meeting = std::make_unique<std::barrier<>>(threads);
        std::vector<std::thread> running;
        for (unsigned t = 0; t < unsigned(threads); t++)
            running.emplace_back([=] {
                threadIdx = {t};
                for (unsigned k = 0; k < unsigned(z); k++)
                    for (unsigned j = 0; j < unsigned(y); j++)
                        for (unsigned i = 0; i < unsigned(x); i++) {
                            blockIdx = {i, j, k};
                            kernel(arguments...);
                            __syncthreads();
                        }
            });
        for (auto& thread : running) thread.join();
    }
};

template <class X, class G>
static void run(const void* x, const void* gain, const void* offset, const float* emb, void* y,
                const int* sizes, float eps, bool silu, int threads, int64_t* counts) {
    iidm::Shape s {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[7], sizes[8], sizes[5],
                   sizes[6] == 1, emb != nullptr, silu, eps};
    std::vector<float> found(2 * s.images * s.groups * s.parts(), NAN), norms(2 * s.images * s.groups, NAN);
    loads = stores = 0;
    iidm::normalize(Launch(), threads, (const Counted<X>*)x, (const Counted<G>*)gain,
                    (const Counted<G>*)offset, emb, (Counted<X>*)y, found.data(), norms.data(), s);
    counts[0] = loads, counts[1] = stores;
}

// sizes: of x, N x C x H x W; groups; part; maps, rows, columns. emb: N x 2C, or nothing.
#define RUN(name, X, G) extern "C" void name(const void* x, const void* gain, const void* offset,         \
        const float* emb, void* y, const int* sizes, float eps, bool silu, int threads, int64_t* counts) { \
    run<X, G>(x, gain, offset, emb, y, sizes, eps, silu, threads, counts);                                \
}
RUN(fp32_fp32, float, float)
RUN(fp16_fp16, _Float16, _Float16)
RUN(fp16_fp32, _Float16, float)
RUN(bf16_bf16, Brief, Brief)
RUN(bf16_fp32, Brief, float)
