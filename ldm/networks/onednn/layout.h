// Activations of a batch, N x K x H x W x B: K blocks of B = 16 or 8 channels in fp32, or one block of all
// channels ("channels last") in bf16. Kernels go through L channels at a time, a block or a part of one.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace iidm {

struct bf16 { uint16_t bits; };

inline float load(const float* p) { return *p; }
inline float load(const bf16* p) {
    uint32_t bits = uint32_t(p->bits) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
inline void store(float* p, float value) { *p = value; }
inline void store(bf16* p, float value) {           // to the nearest, to even where two are as near
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    p->bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// Weights of one output to bf16, one after the other. Each is rounded up or down, whichever keeps the sum of
// the errors so far near 0 (error diffusion, Floyd and Steinberg 1976). Their inputs have a mean, above 0
// after SiLU, which would turn that sum into a shift of the output.
struct Diffusion {
    float carried = 0;
    bf16 operator()(float weight) {
        bf16 near, far;                             // far: on the other side of the weight
        store(&near, weight);
        far.bits = near.bits + (std::fabs(load(&near)) > std::fabs(weight) ? -1 : 1);
        const float short_of = load(&near) - weight, beyond = load(&far) - weight;
        const bool flipped = std::fabs(carried + beyond) < std::fabs(carried + short_of);
        carried += flipped ? beyond : short_of;
        return flipped ? far : near;
    }
};

// 1 / (1 + exp(-v)), off by 2e-7 of it, in a third of the time of the library's exp for 16 numbers: exp(-v) =
// 2^n 2^f with a whole n and |f| <= 1/2, and the Taylor series of 2^f.
inline float sigmoid(float v) {
    float t = v * -1.44269504f;
    t = t < -126.f ? -126.f : t > 126.f ? 126.f : t;
    int32_t n = static_cast<int32_t>(t + 127.5f), bits = n << 23;       // n is 127 more than above
    float f = t - (n - 127), power;
    std::memcpy(&power, &bits, 4);
    float series = 1.54035304e-4f;
    series = series * f + 1.33335581e-3f, series = series * f + 9.61812911e-3f;
    series = series * f + 5.55041087e-2f, series = series * f + 2.40226507e-1f;
    series = series * f + 6.93147181e-1f, series = series * f + 1.f;
    return 1.f / (1.f + series * power);
}


struct Layout {
    int64_t images, blocks, height, width, block;
    int64_t channels() const { return blocks * block; }
    int64_t size() const { return height * width; }
    // Where channels c, c + 1, ... of an image's first position are; the next position is `block` further.
    int64_t at(int64_t image, int64_t c) const {
        return (image * blocks + c / block) * size() * block + c % block;
    }
};

}  // namespace iidm
