// Activations of a batch, N x K x H x W x B: K blocks of B = 16 or 8 channels in fp32, or one block of all
// channels ("channels last") in bf16. Kernels go through L channels at a time, a block or a part of one.
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
