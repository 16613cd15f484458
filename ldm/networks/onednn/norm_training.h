// act((norm(x) gain + offset) (1 + scale) + shift), with its gradients; act is SiLU. gain and offset are maps
// of the activation's size, side by side as 2 C channels (`MAPS`), or C numbers each, one after the other.
// scale and shift are an image's: `emb`, N x 2 C. Moments are taken of what differs from a channel's first
// value, in rows of fp32 summed in fp64.
#include <cmath>

namespace iidm {

// f(image, first channel) for every L channels of a batch, on all threads.
template <int L, class F>
void each(const Layout& x, F f) {
    int64_t parts = x.channels() / L;
    #pragma omp parallel for collapse(2)
    for (int64_t n = 0; n < x.images; n++)
        for (int64_t part = 0; part < parts; part++) f(n, part * L);
}

// Of each image's group: the mean of a number that each channel has.
inline double of_group(const double* numbers, int64_t share) {
    double sum = 0;
    for (int64_t i = 0; i < share; i++) sum += numbers[i] / share;
    return sum;
}

// stats: N x 2 C, mean and reciprocal deviation of each channel's group.
template <class T, int L>
void statistics(const T* x, const Layout& at, int64_t groups, float eps, float* stats) {
    int64_t C = at.channels(), share = C / groups;
    std::vector<double> means(at.images * C), variances(at.images * C);
    each<L>(at, [&](int64_t n, int64_t c) {
        const T* p = x + at.at(n, c);
        double sums[L] = {}, squares[L] = {};
        float first[L];
        for (int lane = 0; lane < L; lane++) first[lane] = load(p + lane);
        for (int64_t row = 0; row < at.height; row++) {
            float sum[L] = {}, square[L] = {};
            for (int64_t column = 0; column < at.width; column++, p += at.block)
                #pragma omp simd
                for (int lane = 0; lane < L; lane++) {
                    float d = load(p + lane) - first[lane];
                    sum[lane] += d;
                    square[lane] += d * d;
                }
            for (int lane = 0; lane < L; lane++) sums[lane] += sum[lane], squares[lane] += square[lane];
        }
        for (int lane = 0; lane < L; lane++) {
            double d = sums[lane] / at.size();
            means[n * C + c + lane] = first[lane] + d;
            variances[n * C + c + lane] = squares[lane] / at.size() - d * d;
        }
    });
    for (int64_t n = 0; n < at.images; n++)
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

// What L channels of an image are computed with.
template <int L>
struct Channels {
    float mean[L], scale[L], gain[L], offset[L], times[L], plus[L];
    Channels(const float* stats, const float* affine, const float* emb, int64_t C, int64_t n, int64_t c) {
        for (int lane = 0; lane < L; lane++) {
            mean[lane] = stats[2 * n * C + c + lane], scale[lane] = stats[(2 * n + 1) * C + c + lane];
            gain[lane] = affine ? affine[c + lane] : 1, offset[lane] = affine ? affine[C + c + lane] : 0;
            times[lane] = 1 + emb[2 * n * C + c + lane], plus[lane] = emb[(2 * n + 1) * C + c + lane];
        }
    }
};

template <class T, int L, bool MAPS>
void normalize(const T* x, const void* given, const float* emb, T* y, float* stats, const Layout& at,
               const Layout& maps, int64_t groups, float eps, bool silu) {
    int64_t C = at.channels();
    statistics<T, L>(x, at, groups, eps, stats);
    each<L>(at, [&](int64_t n, int64_t c) {
        Channels<L> k(stats, MAPS ? nullptr : static_cast<const float*>(given), emb, C, n, c);
        const T *p = x + at.at(n, c), *g = nullptr, *o = nullptr;
        if (MAPS) {
            int64_t image = maps.images == 1 ? 0 : n;
            g = static_cast<const T*>(given) + maps.at(image, c);
            o = static_cast<const T*>(given) + maps.at(image, C + c);
        }
        T* q = y + at.at(n, c);
        for (int64_t i = 0; i < at.size(); i++, p += at.block, q += at.block) {
            float v[L];
            #pragma omp simd
            for (int lane = 0; lane < L; lane++) {
                float gain = MAPS ? load(g + i * maps.block + lane) : k.gain[lane];
                float offset = MAPS ? load(o + i * maps.block + lane) : k.offset[lane];
                v[lane] = ((load(p + lane) - k.mean[lane]) * k.scale[lane] * gain + offset) * k.times[lane]
                          + k.plus[lane];
            }
            if (silu)
                #pragma omp simd
                for (int lane = 0; lane < L; lane++) v[lane] = v[lane] / (1 + std::exp(-v[lane]));
            #pragma omp simd
            for (int lane = 0; lane < L; lane++) store(q + lane, v[lane]);
        }
    });
}

// The gradients of x, of the maps or of 2 C numbers (over the batch), and of emb. In a first pass dx is that of
// the normalised values.
template <class T, int L, bool MAPS>
void backward(const T* x, const void* given, const float* emb, const float* stats, const T* dy, T* dx,
              void* dgiven, float* demb, const Layout& at, const Layout& maps, int64_t groups, bool silu) {
    int64_t C = at.channels(), N = at.images, share = C / groups;
    std::vector<double> sums(N * C), products(N * C), gains(N * C), offsets(N * C);
    each<L>(at, [&](int64_t n, int64_t c) {
        Channels<L> k(stats, MAPS ? nullptr : static_cast<const float*>(given), emb, C, n, c);
        const T *p = x + at.at(n, c), *r = dy + at.at(n, c), *g = nullptr, *o = nullptr;
        T *q = dx + at.at(n, c), *dg = nullptr, *dO = nullptr;
        if (MAPS) {
            g = static_cast<const T*>(given) + maps.at(n, c), o = static_cast<const T*>(given) + maps.at(n, C + c);
            dg = static_cast<T*>(dgiven) + maps.at(n, c), dO = static_cast<T*>(dgiven) + maps.at(n, C + c);
        }
        double total[6][L] = {};
        for (int64_t row = 0; row < at.height; row++) {
            float s[6][L] = {};
            for (int64_t i = 0; i < at.width; i++, p += at.block, q += at.block, r += at.block) {
                float normal[L], inner[L], slope[L];
                #pragma omp simd
                for (int lane = 0; lane < L; lane++) {
                    normal[lane] = (load(p + lane) - k.mean[lane]) * k.scale[lane];
                    inner[lane] = normal[lane] * (MAPS ? load(g + lane) : k.gain[lane])
                                  + (MAPS ? load(o + lane) : k.offset[lane]);
                    slope[lane] = load(r + lane);
                }
                if (silu)
                    #pragma omp simd
                    for (int lane = 0; lane < L; lane++) {
                        float v = inner[lane] * k.times[lane] + k.plus[lane], part = 1 / (1 + std::exp(-v));
                        slope[lane] *= part * (1 + v * (1 - part));
                    }
                #pragma omp simd
                for (int lane = 0; lane < L; lane++) {
                    float d = slope[lane] * k.times[lane];
                    float of_normal = d * (MAPS ? load(g + lane) : k.gain[lane]);
                    if (MAPS) store(dg + lane, d * normal[lane]), store(dO + lane, d);
                    store(q + lane, of_normal);
                    s[0][lane] += slope[lane] * inner[lane], s[1][lane] += slope[lane];
                    s[2][lane] += of_normal, s[3][lane] += of_normal * normal[lane];
                    if (!MAPS) s[4][lane] += d * normal[lane], s[5][lane] += d;
                }
                if (MAPS) g += maps.block, o += maps.block, dg += maps.block, dO += maps.block;
            }
            for (int j = 0; j < 6; j++)
                for (int lane = 0; lane < L; lane++) total[j][lane] += s[j][lane];
        }
        for (int lane = 0; lane < L; lane++) {
            demb[2 * n * C + c + lane] = total[0][lane], demb[(2 * n + 1) * C + c + lane] = total[1][lane];
            sums[n * C + c + lane] = total[2][lane] / at.size();
            products[n * C + c + lane] = total[3][lane] / at.size();
            gains[n * C + c + lane] = total[4][lane], offsets[n * C + c + lane] = total[5][lane];
        }
    });
    if (!MAPS)
        for (int64_t c = 0; c < C; c++) {
            double gain = 0, offset = 0;
            for (int64_t n = 0; n < N; n++) gain += gains[n * C + c], offset += offsets[n * C + c];
            static_cast<float*>(dgiven)[c] = gain, static_cast<float*>(dgiven)[C + c] = offset;
        }
    each<L>(at, [&](int64_t n, int64_t c) {
        float mean[L], product[L];
        for (int lane = 0; lane < L; lane++) {
            int64_t start = n * C + (c + lane) / share * share;
            mean[lane] = of_group(sums.data() + start, share);
            product[lane] = of_group(products.data() + start, share);
        }
        Channels<L> k(stats, nullptr, emb, C, n, c);
        const T* p = x + at.at(n, c);
        T* q = dx + at.at(n, c);
        for (int64_t i = 0; i < at.size(); i++, p += at.block, q += at.block)
            #pragma omp simd
            for (int lane = 0; lane < L; lane++) {
                float normal = (load(p + lane) - k.mean[lane]) * k.scale[lane];
                store(q + lane, k.scale[lane] * (load(q + lane) - mean[lane] - normal * product[lane]));
            }
    });
}

}  // namespace iidm
