// The kernels of ldm/networks/cuda on the CPU: block by block, with a thread of the machine for each of
// a block's.
#include <barrier>
#include <cmath>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __shared__ static                       // blocks run one after the other

struct Dim {
    unsigned x = 1, y = 1, z = 1;
};
static thread_local Dim threadIdx, blockIdx;
static Dim blockDim, gridDim;
static std::unique_ptr<std::barrier<>> meeting;

static void __syncthreads() { meeting->arrive_and_wait(); }

#include "normalization.h"

template <class Kernel>
static void launch(Dim grid, unsigned threads, Kernel kernel) {
    gridDim = grid, blockDim = {threads};
    meeting = std::make_unique<std::barrier<>>(threads);
    std::vector<std::thread> running;
    for (unsigned t = 0; t < threads; t++)
        running.emplace_back([=] {
            threadIdx = {t};
            for (unsigned z = 0; z < grid.z; z++)
                for (unsigned y = 0; y < grid.y; y++)
                    for (unsigned x = 0; x < grid.x; x++) {
                        blockIdx = {x, y, z};
                        kernel();
                        __syncthreads();
                    }
        });
    for (auto& thread : running) thread.join();
}

// x, y: images x channels x height x width; gain, offset: maps x channels x rows x columns; emb or nothing.
extern "C" void run(const float* x, const float* gain, const float* offset, const float* emb, float* y,
                    const int64_t* sizes, float eps, bool silu, unsigned threads, unsigned blocks) {
    int64_t images = sizes[0], maps = sizes[6];
    iidm::Shape s {sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[7], sizes[8], maps == 1,
                   emb != nullptr, silu, eps};
    int64_t size = s.channels / s.groups * s.height * s.width;
    std::vector<float> found(2 * images * s.groups * s.parts);
    launch({unsigned(images * s.groups), unsigned(s.parts)}, threads,
           [&] { iidm::moments(x, found.data(), size); });
    launch({blocks, unsigned(s.channels), unsigned(images)}, threads,
           [&] { iidm::modulate(x, found.data(), gain, offset, emb, y, s); });
}
