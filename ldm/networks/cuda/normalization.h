// Group normalisation, modulation, the timestep's scale and shift and SiLU, in three kernels:
//   moments  reads x: mean and deviations of each part of a group
//   combine  mean and scale of each group, from its parts'
//   apply    reads x again, and the maps; writes y
// X is the activation's type, G that of gain and offset; all arithmetic is fp32. A thread moves V numbers at
// once, 16 bytes of X, where all is aligned for that, else one. A group has fewer than 2^30 numbers, so that
// positions in it are 32 bits wide; only where a block begins in a tensor takes 64.

namespace iidm {
namespace {                                     // each operator that is compiled has kernels of its own

constexpr int THREADS = 256;                    // of a block, at most
constexpr int PACKS = 4;                        // times that a thread of `apply` moves V numbers

enum Maps { WHOLE, FOLDED, CONSTANT };          // gain and offset: of y's size, folded, one number a channel

// What there is to normalise, and how.
struct Shape {
    int images, channels, height, width, groups;
    int rows, columns;                          // of gain's and offset's maps
    int part;                                   // numbers of a group that a block of `moments` takes
    bool one_map, has_emb, silu;                // one map for all images?
    float eps;
    __host__ __device__ int area() const { return height * width; }
    __host__ __device__ int size() const { return channels / groups * area(); }          // of a group
    __host__ __device__ int parts() const { return (size() + part - 1) / part; }
};

// ---- memory ----------------------------------------------------------------------------------------------

template <class T, int V>
struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) Pack {
    T at[V];
};

template <int V, class T>
__device__ inline Pack<T, V> load(const T* from) {
    return *reinterpret_cast<const Pack<T, V>*>(from);
}

template <int V, class T>
__device__ inline void store(T* to, const Pack<T, V>& numbers) {
    *reinterpret_cast<Pack<T, V>*>(to) = numbers;
}

template <class T>
__device__ inline float one(const T* from) { return float(load<1>(from).at[0]); }

// ---- statistics ------------------------------------------------------------------------------------------

// The sums of all threads' values, for thread 0.
__device__ inline void total(float& first, float& second, float* shared) {
    float* other = shared + THREADS;
    shared[threadIdx.x] = first;
    other[threadIdx.x] = second;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half; half /= 2) {
        if (threadIdx.x < half) {
            shared[threadIdx.x] += shared[threadIdx.x + half];
            other[threadIdx.x] += other[threadIdx.x + half];
        }
        __syncthreads();
    }
    first = shared[0];
    second = other[0];
}

// Block (group, part): the part's mean, and its sum of squared deviations from that. They are taken of what
// differs from the part's first number, so that a large mean costs no digits.
template <class X, int V>
__global__ void moments(const X* x, float* found, Shape s) {
    __shared__ float shared[2 * THREADS];
    int size = s.size(), begin = blockIdx.y * s.part, end = begin + s.part < size ? begin + s.part : size;
    const X* group = x + blockIdx.x * int64_t(size);
    float first = one(group + begin), sum = 0, square = 0;
#pragma unroll 4
    for (int i = begin + V * threadIdx.x; i < end; i += V * blockDim.x) {
        Pack<X, V> numbers = load<V>(group + i);
        for (int k = 0; k < V; k++) {
            float d = float(numbers.at[k]) - first;
            sum += d;
            square += d * d;
        }
    }
    total(sum, square, shared);
    if (threadIdx.x == 0) {
        float mean = sum / (end - begin), rest = square - sum * mean;
        float* own = found + 2 * (blockIdx.x * int64_t(gridDim.y) + blockIdx.y);
        own[0] = first + mean;
        own[1] = rest > 0 ? rest : 0;
    }
}

// Each thread: a group's mean and reciprocal standard deviation, from its parts' moments.
__global__ void combine(const float* found, float* norms, Shape s) {
    int group = blockIdx.x * blockDim.x + threadIdx.x, parts = s.parts();
    if (group >= s.images * s.groups) return;
    const float* own = found + 2 * int64_t(group) * parts;
    float size = s.size(), last = s.size() - (parts - 1) * s.part, mean = 0, deviations = 0;
    for (int p = 0; p < parts; p++) mean += own[2 * p] * ((p < parts - 1 ? s.part : last) / size);
    for (int p = 0; p < parts; p++) {
        float d = own[2 * p] - mean;
        deviations += own[2 * p + 1] + d * d * (p < parts - 1 ? s.part : last);
    }
    norms[2 * group] = mean;
    norms[2 * group + 1] = 1 / sqrtf(deviations / size + s.eps);
}

// ---- what follows ----------------------------------------------------------------------------------------

// The position in a map of `given` rows or columns that stands for position i of `size`: the map is whole, or
// folded to what its border (first, last) and its inside (all the same) hold.
__device__ inline int folded(int i, int size, int given) {
    return given == size ? i : i == 0 ? 0 : i == size - 1 ? given - 1 : given / 2;
}

// The V numbers of a channel's map that belong to positions i, i + 1, ... of y.
template <int V, class G>
__device__ inline void take(Pack<float, V>& to, const G* map, int i, const Shape&,
                            std::integral_constant<Maps, WHOLE>) {
    Pack<G, V> numbers = load<V>(map + i);
    for (int k = 0; k < V; k++) to.at[k] = float(numbers.at[k]);
}

template <int V, class G>
__device__ inline void take(Pack<float, V>& to, const G* map, int i, const Shape& s,
                            std::integral_constant<Maps, FOLDED>) {
    int row = i / s.width, column = i - row * s.width;
    for (int k = 0; k < V; k++) {
        to.at[k] = one(map + folded(row, s.height, s.rows) * s.columns
                       + folded(column, s.width, s.columns));
        if (++column == s.width) column = 0, row++;
    }
}

template <int V, class G>
__device__ inline void take(Pack<float, V>&, const G*, int, const Shape&,
                            std::integral_constant<Maps, CONSTANT>) {}     // taken before

// Blocks (some positions, channel, image): y = act((norm(x) gain + offset) (1 + emb[c]) + emb[channels + c]).
template <class X, class G, int V, Maps M>
__global__ void apply(const X* x, const float* norms, const G* gain, const G* offset, const float* emb, X* y,
                      Shape s) {
    int c = blockIdx.y, image = blockIdx.z, area = s.area(), map = (s.one_map ? 0 : image) * s.channels + c;
    const float* own = norms + 2 * (image * s.groups + c / (s.channels / s.groups));
    float mean = own[0], scale = own[1], e = 1, f = 0;
    if (s.has_emb) {
        e += emb[image * 2 * s.channels + c];
        f += emb[image * 2 * s.channels + s.channels + c];
    }
    int64_t begin = (image * int64_t(s.channels) + c) * area;
    x += begin;
    y += begin;
    gain += map * int64_t(s.rows * s.columns);
    offset += map * int64_t(s.rows * s.columns);
    Pack<float, V> g, o;
    if (M == CONSTANT) {
        float both[] = {one(gain), one(offset)};
        for (int k = 0; k < V; k++) g.at[k] = both[0], o.at[k] = both[1];
    }
#pragma unroll
    for (int n = 0; n < PACKS; n++) {
        int i = V * ((blockIdx.x * PACKS + n) * blockDim.x + threadIdx.x);
        if (i >= area) break;
        Pack<X, V> numbers = load<V>(x + i), made;
        take(g, gain, i, s, std::integral_constant<Maps, M>());
        take(o, offset, i, s, std::integral_constant<Maps, M>());
        for (int k = 0; k < V; k++) {
            float v = ((float(numbers.at[k]) - mean) * scale * g.at[k] + o.at[k]) * e + f;
            made.at[k] = X(s.silu ? v / (1 + expf(-v)) : v);
        }
        store(y + i, made);
    }
}

// ---- launches --------------------------------------------------------------------------------------------

int quotient(int a, int b) { return (a + b - 1) / b; }

// `launch(kernel, x, y, z, threads, arguments...)` starts x * y * z blocks of so many threads.
template <int V, Maps M, class X, class G, class Launch>
void launched(Launch launch, int threads, const X* x, const G* gain, const G* offset, const float* emb, X* y,
              float* found, float* norms, Shape s) {
    launch(moments<X, V>, s.images * s.groups, s.parts(), 1, threads, x, found, s);
    launch(combine, quotient(s.images * s.groups, threads), 1, 1, threads, found, norms, s);
    int packs = quotient(s.area(), V), few = quotient(packs, 32) * 32;     // a small map takes few threads
    threads = few < threads ? few : threads;
    launch(apply<X, G, V, M>, quotient(packs, PACKS * threads), s.channels, s.images, threads,
           x, norms, gain, offset, emb, y, s);
}

template <class T>
bool aligned(const T* place) { return reinterpret_cast<uintptr_t>(place) % 16 == 0; }

// found: 2 floats for each part of each group, norms: 2 for each group. threads: a power of two, <= THREADS.
template <class X, class G, class Launch>
void normalize(Launch launch, int threads, const X* x, const G* gain, const G* offset, const float* emb, X* y,
               float* found, float* norms, Shape s) {
    constexpr int V = 16 / sizeof(X);
    bool fit = s.area() % V == 0 && s.part % V == 0 && aligned(x) && aligned(y) && aligned(gain)
               && aligned(offset);
    auto run = s.rows == s.height && s.columns == s.width
                   ? (fit ? launched<V, WHOLE, X, G, Launch> : launched<1, WHOLE, X, G, Launch>)
               : s.rows * s.columns == 1
                   ? (fit ? launched<V, CONSTANT, X, G, Launch> : launched<1, CONSTANT, X, G, Launch>)
                   : (fit ? launched<V, FOLDED, X, G, Launch> : launched<1, FOLDED, X, G, Launch>);
    run(launch, threads, x, gain, offset, emb, y, found, norms, s);
}

}  // namespace
}  // namespace iidm
