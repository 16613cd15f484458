// Group normalisation, modulation, the timestep's scale and shift and SiLU: two passes over N x C x H x W.
// X is the activation's type, G that of gain and offset; all arithmetic is fp32.

namespace iidm {

constexpr int THREADS = 256;                    // of a block, at most

// What there is to normalise, and how.
struct Shape {
    int64_t channels, height, width, groups, parts;
    int64_t rows, columns;                      // of gain's and offset's maps: whole, or folded
    bool one_map, has_emb, silu;                // one map for all images?
    float eps;
};

// The position in a map of `given` rows or columns that stands for position i of `size`: the map is whole, or
// folded to what its border (first, last) and its inside (all the same) hold.
__device__ inline int64_t folded(int64_t i, int64_t size, int64_t given) {
    return given == size ? i : i == 0 ? 0 : i == size - 1 ? given - 1 : given / 2;
}

// The sum of all threads' values, for every thread.
__device__ inline float total(float value, float* shared) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half; half /= 2) {
        if (int(threadIdx.x) < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    float sum = shared[0];
    __syncthreads();
    return sum;
}

// Block (group, part): the part's mean, and its sum of squared deviations from that. They are taken of what
// differs from the part's first number, so that a large mean costs no digits.
template <class X>
__global__ void moments(const X* x, float* found, int64_t size) {
    __shared__ float shared[THREADS];
    int64_t parts = gridDim.y, begin = size * blockIdx.y / parts, end = size * (blockIdx.y + 1) / parts;
    const X* group = x + blockIdx.x * size;
    float first = float(group[begin]), sum = 0, square = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        float d = float(group[i]) - first;
        sum += d;
        square += d * d;
    }
    sum = total(sum, shared);
    square = total(square, shared);
    if (threadIdx.x == 0) {
        float mean = sum / (end - begin), rest = square - sum * mean;
        float* own = found + 2 * (blockIdx.x * parts + blockIdx.y);
        own[0] = first + mean;
        own[1] = rest > 0 ? rest : 0;
    }
}

// Mean and reciprocal standard deviation of a group of `size` numbers, from its parts' moments.
__device__ inline void combine(const float* found, int64_t size, const Shape& s, float& mean, float& scale) {
    float deviations = 0;
    mean = 0;
    for (int64_t part = 0; part < s.parts; part++)
        mean += found[2 * part] * (float(size * (part + 1) / s.parts - size * part / s.parts) / size);
    for (int64_t part = 0; part < s.parts; part++) {
        float d = found[2 * part] - mean;
        deviations += found[2 * part + 1] + d * d * (size * (part + 1) / s.parts - size * part / s.parts);
    }
    scale = 1 / sqrtf(deviations / size + s.eps);
}

// Blocks (some positions, channel, image): y = act((norm(x) gain + offset) (1 + emb[c]) + emb[channels + c]).
template <class X, class G>
__global__ void modulate(const X* x, const float* found, const G* gain, const G* offset, const float* emb,
                         X* y, Shape s) {
    int64_t c = blockIdx.y, image = blockIdx.z, area = s.height * s.width, share = s.channels / s.groups;
    float mean, scale, e = 1, f = 0;
    combine(found + 2 * s.parts * (image * s.groups + c / share), share * area, s, mean, scale);
    if (s.has_emb) {
        e += emb[image * 2 * s.channels + c];
        f += emb[image * 2 * s.channels + s.channels + c];
    }
    const X* from = x + (image * s.channels + c) * area;
    X* to = y + (image * s.channels + c) * area;
    int64_t map = ((s.one_map ? 0 : image) * s.channels + c) * s.rows * s.columns;
    for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < area;
         i += gridDim.x * int64_t(blockDim.x)) {
        int64_t at = map + folded(i / s.width, s.height, s.rows) * s.columns
                   + folded(i % s.width, s.width, s.columns);
        float v = ((float(from[i]) - mean) * scale * float(gain[at]) + float(offset[at])) * e + f;
        to[i] = X(s.silu ? v / (1 + expf(-v)) : v);
    }
}

}  // namespace iidm
