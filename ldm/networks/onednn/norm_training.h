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

// stats: N x 2 C, see of_groups.
template <class T, int L>
void statistics(const T* x, const Layout& at, int64_t groups, float eps, float* stats) {
    int64_t C = at.channels();
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
    of_groups(means, variances, at.images, C, groups, eps, stats);
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

template <class T, int L, bool MAPS, bool SILU>
void normalize_blocks(const T* x, const void* given, const float* emb, T* y, const float* stats, const Layout& at,
                      const Layout& maps) {
    int64_t C = at.channels();
    each<L>(at, [&](int64_t n, int64_t c) {
        Channels<L> k(stats, MAPS ? nullptr : static_cast<const float*>(given), emb, C, n, c);
        const T *p = x + at.at(n, c), *g = nullptr, *o = nullptr;
        if (MAPS) {
            int64_t image = maps.images == 1 ? 0 : n;
            g = static_cast<const T*>(given) + maps.at(image, c);
            o = static_cast<const T*>(given) + maps.at(image, C + c);
        }
        T* q = y + at.at(n, c);
        for (int64_t i = 0; i < at.size(); i++, p += L, q += L)
            #pragma omp simd
            for (int lane = 0; lane < L; lane++) {
                float gain = MAPS ? load(g + i * L + lane) : k.gain[lane];
                float offset = MAPS ? load(o + i * L + lane) : k.offset[lane];
                float v = ((load(p + lane) - k.mean[lane]) * k.scale[lane] * gain + offset) * k.times[lane]
                          + k.plus[lane];
                store(q + lane, SILU ? v * sigmoid(v) : v);
            }
    });
}

template <class T, int L, bool MAPS>
void normalize(const T* x, const void* given, const float* emb, T* y, float* stats, const Layout& at,
               const Layout& maps, int64_t groups, float eps, bool silu) {
    if (at.block > L)
        return normalize_by_rows<T, MAPS>(x, given, emb, y, stats, at, maps, groups, eps, silu);
    statistics<T, L>(x, at, groups, eps, stats);
    (silu ? normalize_blocks<T, L, MAPS, true> : normalize_blocks<T, L, MAPS, false>)(
        x, given, emb, y, stats, at, maps);
}

// Sums over an image's positions, N x C each.
struct Sums {
    std::vector<double> ups, products, gains, offsets;
    explicit Sums(int64_t count) : ups(count), products(count), gains(count), offsets(count) {}
};

// The first pass: dx is that of the normalised values, over positions: its mean, and the mean of its products with
// them. Without maps `sums` also has the gradients of gain and offset.
template <class T, int L, bool MAPS, bool SILU>
void backward_blocks(const T* x, const void* given, const float* emb, const float* stats, const T* dy, T* dx,
                     void* dgiven, float* demb, Sums& sums, const Layout& at, const Layout& maps) {
    int64_t C = at.channels();
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
            for (int64_t i = 0; i < at.width; i++, p += L, q += L, r += L) {
                #pragma omp simd
                for (int lane = 0; lane < L; lane++) {
                    float gain = MAPS ? load(g + lane) : k.gain[lane];
                    float offset = MAPS ? load(o + lane) : k.offset[lane];
                    float normal = (load(p + lane) - k.mean[lane]) * k.scale[lane], inner = normal * gain + offset;
                    float slope = load(r + lane), v = inner * k.times[lane] + k.plus[lane];
                    if (SILU) {
                        float part = sigmoid(v);
                        slope *= part * (1 + v * (1 - part));
                    }
                    float d = slope * k.times[lane], of_normal = d * gain;
                    if (MAPS) store(dg + lane, d * normal), store(dO + lane, d);
                    store(q + lane, of_normal);
                    s[0][lane] += slope * inner, s[1][lane] += slope;
                    s[2][lane] += of_normal, s[3][lane] += of_normal * normal;
                    if (!MAPS) s[4][lane] += d * normal, s[5][lane] += d;
                }
                if (MAPS) g += L, o += L, dg += L, dO += L;
            }
            for (int j = 0; j < 6; j++)
                for (int lane = 0; lane < L; lane++) total[j][lane] += s[j][lane];
        }
        for (int lane = 0; lane < L; lane++) {
            demb[2 * n * C + c + lane] = total[0][lane], demb[(2 * n + 1) * C + c + lane] = total[1][lane];
            sums.ups[n * C + c + lane] = total[2][lane] / at.size();
            sums.products[n * C + c + lane] = total[3][lane] / at.size();
            sums.gains[n * C + c + lane] = total[4][lane], sums.offsets[n * C + c + lane] = total[5][lane];
        }
    });
}

// The gradients of x, of the maps or of 2 C numbers (over the batch), and of emb.
template <class T, int L, bool MAPS>
void backward(const T* x, const void* given, const float* emb, const float* stats, const T* dy, T* dx,
              void* dgiven, float* demb, const Layout& at, const Layout& maps, int64_t groups, bool silu) {
    if (at.block > L)
        return backward_by_rows<T, MAPS>(x, given, emb, stats, dy, dx, dgiven, demb, at, groups, silu);
    int64_t C = at.channels(), N = at.images, share = C / groups;
    Sums sums(N * C);
    (silu ? backward_blocks<T, L, MAPS, true> : backward_blocks<T, L, MAPS, false>)(
        x, given, emb, stats, dy, dx, dgiven, demb, sums, at, maps);
    if (!MAPS)
        for (int64_t c = 0; c < C; c++) {
            double gain = 0, offset = 0;
            for (int64_t n = 0; n < N; n++) gain += sums.gains[n * C + c], offset += sums.offsets[n * C + c];
            static_cast<float*>(dgiven)[c] = gain, static_cast<float*>(dgiven)[C + c] = offset;
        }
    each<L>(at, [&](int64_t n, int64_t c) {
        float mean[L], product[L];
        for (int lane = 0; lane < L; lane++) {
            int64_t start = n * C + (c + lane) / share * share;
            mean[lane] = of_group(sums.ups.data() + start, share);
            product[lane] = of_group(sums.products.data() + start, share);
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
