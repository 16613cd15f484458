// norm_training.h's kernels for channels last: by positions, whose channels lie side by side. A thread that took
// 16 channels of all positions would use half of each line of the cache, and read it from memory twice.
#include <cmath>

namespace iidm {

// Of each image's group: the mean of a number that each channel has.
inline double of_group(const double* numbers, int64_t share) {
    double sum = 0;
    for (int64_t i = 0; i < share; i++) sum += numbers[i] / share;
    return sum;
}

// Of each image's channels: mean and variance -> stats, N x 2 C, mean and reciprocal deviation of their groups.
inline void of_groups(std::vector<double>& means, std::vector<double>& variances, int64_t images, int64_t C,
                      int64_t groups, float eps, float* stats) {
    int64_t share = C / groups;
    for (int64_t n = 0; n < images; n++)
        for (int64_t start = 0; start < C; start += share) {
            double* mean = means.data() + n * C + start;
            double* variance = variances.data() + n * C + start;
            double m = of_group(mean, share);
            for (int64_t c = 0; c < share; c++) variance[c] += (mean[c] - m) * (mean[c] - m);
            double v = of_group(variance, share);
            for (int64_t c = start; c < start + share; c++)
                stats[2 * n * C + c] = m, stats[(2 * n + 1) * C + c] = 1 / std::sqrt(v + eps);
        }
}

// For each of a batch's rows: f(image, the row's first position in the batch, K sums for each channel, which are
// 0 at first). -> the sums over an image's rows in fp64, `images` x K x C, in the same order on any threads.
template <int K, class F>
std::vector<double> sums_of_rows(const Layout& at, F f) {
    int64_t C = at.channels(), rows = at.images * at.height;
    std::vector<float> of_row(rows * K * C);
    #pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) f(row / at.height, row * at.width, of_row.data() + row * K * C);
    std::vector<double> sums(at.images * K * C);
    #pragma omp parallel for collapse(2)
    for (int64_t n = 0; n < at.images; n++)
        for (int64_t part = 0; part < K * C / 16; part++)
            for (int64_t row = n * at.height; row < (n + 1) * at.height; row++)
                for (int64_t i = part * 16; i < part * 16 + 16; i++)
                    sums[n * K * C + i] += of_row[row * K * C + i];
    return sums;
}

// What the channels of each image are computed with: C means, scales, gains, offsets, factors, summands.
struct PerChannel {
    int64_t C;
    std::vector<float> numbers;
    PerChannel(const float* stats, const float* affine, const float* emb, int64_t images, int64_t C)
        : C(C), numbers(images * 6 * C) {
        for (int64_t n = 0; n < images; n++)
            for (int64_t c = 0; c < C; c++) {
                float* of = numbers.data() + n * 6 * C + c;
                of[0] = stats[2 * n * C + c], of[C] = stats[(2 * n + 1) * C + c];
                of[2 * C] = affine ? affine[c] : 1, of[3 * C] = affine ? affine[C + c] : 0;
                of[4 * C] = 1 + emb[2 * n * C + c], of[5 * C] = emb[(2 * n + 1) * C + c];
            }
    }
    const float* of(int64_t n) const { return numbers.data() + n * 6 * C; }
};

template <class T>
void statistics_by_rows(const T* x, const Layout& at, int64_t groups, float eps, float* stats) {
    int64_t C = at.channels();
    auto sums = sums_of_rows<2>(at, [&](int64_t n, int64_t start, float* sum) {
        const T *first = x + n * at.size() * C, *p = x + start * C;
        for (int64_t i = 0; i < at.width; i++, p += C)
            #pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                float d = load(p + c) - load(first + c);
                sum[c] += d, sum[C + c] += d * d;
            }
    });
    std::vector<double> means(at.images * C), variances(at.images * C);
    for (int64_t n = 0; n < at.images; n++)
        for (int64_t c = 0; c < C; c++) {
            double d = sums[2 * n * C + c] / at.size();
            means[n * C + c] = load(x + n * at.size() * C + c) + d;
            variances[n * C + c] = sums[(2 * n + 1) * C + c] / at.size() - d * d;
        }
    of_groups(means, variances, at.images, C, groups, eps, stats);
}

template <class T, bool MAPS, bool SILU>
void normalize_rows(const T* x, const void* given, const PerChannel& all, T* y, const Layout& at,
                    const Layout& maps) {
    int64_t C = at.channels(), W = at.width;
    #pragma omp parallel for
    for (int64_t row = 0; row < at.images * at.height; row++) {
        int64_t n = row / at.height, start = row * W, of_map = maps.images == 1 ? start - n * at.size() : start;
        const float* k = all.of(n);
        const T *p = x + start * C, *g = MAPS ? static_cast<const T*>(given) + of_map * 2 * C : nullptr;
        T* q = y + start * C;
        for (int64_t i = 0; i < W; i++, p += C, q += C, g += MAPS ? 2 * C : 0)
            #pragma omp simd
            for (int64_t j = 0; j < C; j++) {
                float gain = MAPS ? load(g + j) : k[2 * C + j], offset = MAPS ? load(g + C + j) : k[3 * C + j];
                float v = ((load(p + j) - k[j]) * k[C + j] * gain + offset) * k[4 * C + j] + k[5 * C + j];
                store(q + j, SILU ? v * sigmoid(v) : v);
            }
    }
}

template <class T, bool MAPS>
void normalize_by_rows(const T* x, const void* given, const float* emb, T* y, float* stats, const Layout& at,
                       const Layout& maps, int64_t groups, float eps, bool silu) {
    statistics_by_rows<T>(x, at, groups, eps, stats);
    PerChannel all(stats, MAPS ? nullptr : static_cast<const float*>(given), emb, at.images, at.channels());
    (silu ? normalize_rows<T, MAPS, true> : normalize_rows<T, MAPS, false>)(x, given, all, y, at, maps);
}

// The first pass: dx is that of the normalised values. -> the sums of an image's channels: of emb's gradients, of
// dx, of dx times the normalised values, and without maps of the gradients of gain and offset.
template <class T, bool MAPS, bool SILU>
std::vector<double> backward_rows(const T* x, const void* given, const PerChannel& all, const T* dy, T* dx,
                                  void* dgiven, const Layout& at) {
    int64_t C = at.channels(), W = at.width;
    return sums_of_rows<6>(at, [&](int64_t n, int64_t start, float* s) {
        const float* k = all.of(n);
        const T *p = x + start * C, *r = dy + start * C;
        const T* g = MAPS ? static_cast<const T*>(given) + start * 2 * C : nullptr;
        T *q = dx + start * C, *dg = MAPS ? static_cast<T*>(dgiven) + start * 2 * C : nullptr;
        for (int64_t i = 0; i < W; i++, p += C, q += C, r += C) {
            #pragma omp simd
            for (int64_t j = 0; j < C; j++) {
                float gain = MAPS ? load(g + j) : k[2 * C + j], offset = MAPS ? load(g + C + j) : k[3 * C + j];
                float normal = (load(p + j) - k[j]) * k[C + j], inner = normal * gain + offset;
                float slope = load(r + j), v = inner * k[4 * C + j] + k[5 * C + j];
                if (SILU) {
                    float part = sigmoid(v);
                    slope *= part * (1 + v * (1 - part));
                }
                float d = slope * k[4 * C + j], of_normal = d * gain;
                if (MAPS) store(dg + j, d * normal), store(dg + C + j, d);
                store(q + j, of_normal);
                s[j] += slope * inner, s[C + j] += slope;
                s[2 * C + j] += of_normal, s[3 * C + j] += of_normal * normal;
                if (!MAPS) s[4 * C + j] += d * normal, s[5 * C + j] += d;
            }
            if (MAPS) g += 2 * C, dg += 2 * C;
        }
    });
}

template <class T, bool MAPS>
void backward_by_rows(const T* x, const void* given, const float* emb, const float* stats, const T* dy, T* dx,
                      void* dgiven, float* demb, const Layout& at, int64_t groups, bool silu) {
    int64_t C = at.channels(), W = at.width, N = at.images, share = C / groups;
    PerChannel all(stats, MAPS ? nullptr : static_cast<const float*>(given), emb, N, C);
    auto total = (silu ? backward_rows<T, MAPS, true> : backward_rows<T, MAPS, false>)(
        x, given, all, dy, dx, dgiven, at);
    std::vector<float> means(N * C), products(N * C);
    for (int64_t n = 0; n < N; n++) {
        double* of = total.data() + 6 * n * C;
        for (int64_t c = 0; c < 2 * C; c++) demb[2 * n * C + c] = of[c], of[2 * C + c] /= at.size();
        for (int64_t c = 0; c < C; c++) {
            means[n * C + c] = of_group(of + 2 * C + c / share * share, share);
            products[n * C + c] = of_group(of + 3 * C + c / share * share, share);
        }
    }
    if (!MAPS)
        for (int64_t c = 0; c < 2 * C; c++) {
            double sum = 0;
            for (int64_t n = 0; n < N; n++) sum += total[(6 * n + 4) * C + c];
            static_cast<float*>(dgiven)[c] = sum;
        }
    #pragma omp parallel for
    for (int64_t row = 0; row < N * at.height; row++) {
        int64_t n = row / at.height;
        const float *k = all.of(n), *mean = means.data() + n * C, *product = products.data() + n * C;
        const T* p = x + row * W * C;
        T* q = dx + row * W * C;
        for (int64_t i = 0; i < W; i++, p += C, q += C)
            #pragma omp simd
            for (int64_t j = 0; j < C; j++) {
                float normal = (load(p + j) - k[j]) * k[C + j];
                store(q + j, k[C + j] * (load(q + j) - mean[j] - normal * product[j]));
            }
    }
}

}  // namespace iidm
