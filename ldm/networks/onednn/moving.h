// What only moves numbers: twice or half the size, joining and parting channels. And pairs of them: sums,
// products, what passes a ReLU. A result is rounded once, to the nearest; Jittor's own bf16 operators cut
// digits off.
namespace iidm {

// Every position four times, times `factor`.
template <class T>
void spread(const T* x, T* y, const Layout& at, float factor) {
    int64_t B = at.block, row = 2 * at.width * B;
    #pragma omp parallel for
    for (int64_t line = 0; line < at.images * at.blocks * at.height; line++) {
        const T* p = x + line * at.width * B;
        T* q = y + line * 2 * row;
        for (int64_t i = 0; i < at.width; i++)
            for (int64_t lane = 0; lane < B; lane++) {
                float v = load(p + i * B + lane) * factor;
                store(q + 2 * i * B + lane, v), store(q + (2 * i + 1) * B + lane, v);
            }
        std::memcpy(q + row, q, row * sizeof(T));
    }
}

// The sum of each 2 x 2 of x, times `factor`; `at` is y's.
template <class T>
void gathered(const T* x, T* y, const Layout& at, float factor) {
    int64_t B = at.block, row = 2 * at.width * B;
    #pragma omp parallel for
    for (int64_t line = 0; line < at.images * at.blocks * at.height; line++) {
        const T* p = x + line * 2 * row;
        T* q = y + line * at.width * B;
        for (int64_t i = 0; i < at.width; i++)
            for (int64_t lane = 0; lane < B; lane++) {
                const T *a = p + 2 * i * B + lane, *b = a + row;
                store(q + i * B + lane, (load(a) + load(a + B) + load(b) + load(b + B)) * factor);
            }
    }
}

// [a b] of `count` runs of a and of b, one after the other; the other way round.
template <class T>
void joined(const T* a, const T* b, T* y, int64_t count, int64_t n, int64_t m) {
    #pragma omp parallel for
    for (int64_t i = 0; i < count; i++) {
        std::memcpy(y + i * (n + m), a + i * n, n * sizeof(T));
        std::memcpy(y + i * (n + m) + n, b + i * m, m * sizeof(T));
    }
}

template <class T>
void parted(const T* y, T* a, T* b, int64_t count, int64_t n, int64_t m) {
    #pragma omp parallel for
    for (int64_t i = 0; i < count; i++) {
        std::memcpy(a + i * n, y + i * (n + m), n * sizeof(T));
        std::memcpy(b + i * m, y + i * (n + m) + n, m * sizeof(T));
    }
}

template <class T, class Function>
void paired(const T* a, const T* b, T* y, int64_t count, Function function) {
    #pragma omp parallel for simd
    for (int64_t i = 0; i < count; i++) store(y + i, function(load(a + i), load(b + i)));
}

inline float sum(float a, float b) { return a + b; }
inline float product(float a, float b) { return a * b; }
inline float passed(float y, float dy) { return y > 0 ? dy : 0; }

}  // namespace iidm
