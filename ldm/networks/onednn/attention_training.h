// Self-attention over the positions of a batch, with its gradients; sums and softmax are fp32.
namespace iidm {

// `channels` of one image from c on, from or to rows (positions x channels).
template <class T, int L, bool IN>
void rows(std::conditional_t<IN, const T, T>* x, const Layout& at, int64_t n, int64_t c, int64_t channels,
          std::conditional_t<IN, float, const float>* into) {
    for (int64_t part = 0; part < channels; part += L) {
        auto* p = x + at.at(n, c + part);
        for (int64_t i = 0; i < at.size(); i++)
            #pragma omp simd
            for (int lane = 0; lane < L; lane++)
                if constexpr (IN) into[i * channels + part + lane] = load(p + i * at.block + lane);
                else store(p + i * at.block + lane, into[i * channels + part + lane]);
    }
}

// c = alpha op(a) op(b) + beta c, row by row; op is to transpose where `at` or `bt`.
inline void product(bool at, bool bt, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                    const float* b, float beta, float* c) {
    dnnl_sgemm(at ? 'T' : 'N', bt ? 'T' : 'N', m, n, k, alpha, a, at ? m : k, b, bt ? k : n, beta, c, n);
}

// One head's q, k, v and the weights of ROWS queries at a time.
template <class T, int L>
struct Head {
    int64_t length, channels;
    float scale;
    std::vector<float> q, k, v, weights;
    Head(const T* qkv, const Layout& at, int64_t n, int64_t head, int64_t channels)
        : length(at.size()), channels(channels), scale(1 / std::sqrt(float(channels))), q(length * channels),
          k(length * channels), v(length * channels), weights(std::min(ROWS, length) * length) {
        int64_t first = 3 * head * channels;
        rows<T, L, true>(qkv, at, n, first, channels, q.data());
        rows<T, L, true>(qkv, at, n, first + channels, channels, k.data());
        rows<T, L, true>(qkv, at, n, first + 2 * channels, channels, v.data());
    }
    int64_t attend(int64_t start) {
        int64_t count = std::min(ROWS, length - start);
        product(false, true, count, length, channels, scale, q.data() + start * channels, k.data(), 0,
                weights.data());
        #pragma omp parallel for
        for (int64_t i = 0; i < count; i++) softmax(weights.data() + i * length, length);
        return count;
    }
};

template <class T, int L>
void attend(const T* qkv, T* y, const Layout& from, const Layout& to, int64_t heads) {
    int64_t channels = to.channels() / heads;
    #pragma omp parallel for if (heads * from.images > 1)
    for (int64_t item = 0; item < heads * from.images; item++) {
        int64_t n = item / heads, head = item % heads;
        Head<T, L> h(qkv, from, n, head, channels);
        std::vector<float> result(h.length * channels);
        for (int64_t start = 0; start < h.length; start += ROWS) {
            int64_t count = h.attend(start);
            product(false, false, count, channels, h.length, 1, h.weights.data(), h.v.data(), 0,
                    result.data() + start * channels);
        }
        rows<T, L, false>(y, to, n, head * channels, channels, result.data());
    }
}

template <class T, int L>
void attend_backward(const T* qkv, const T* dy, T* dqkv, const Layout& from, const Layout& to, int64_t heads) {
    int64_t channels = to.channels() / heads;
    #pragma omp parallel for if (heads * from.images > 1)
    for (int64_t item = 0; item < heads * from.images; item++) {
        int64_t n = item / heads, head = item % heads;
        Head<T, L> h(qkv, from, n, head, channels);
        std::vector<float> above(h.length * channels), dq(above.size()), dk(above.size()), dv(above.size());
        std::vector<float> slopes(h.weights.size());
        rows<T, L, true>(dy, to, n, head * channels, channels, above.data());
        for (int64_t start = 0; start < h.length; start += ROWS) {
            int64_t count = h.attend(start), length = h.length;
            const float* part = above.data() + start * channels;
            product(true, false, length, channels, count, 1, h.weights.data(), part, start > 0, dv.data());
            product(false, true, count, length, channels, 1, part, h.v.data(), 0, slopes.data());
            #pragma omp parallel for
            for (int64_t i = 0; i < count; i++) {
                float *w = h.weights.data() + i * length, *s = slopes.data() + i * length, sum = 0;
                #pragma omp simd reduction(+ : sum)
                for (int64_t j = 0; j < length; j++) sum += w[j] * s[j];
                #pragma omp simd
                for (int64_t j = 0; j < length; j++) s[j] = w[j] * (s[j] - sum);
            }
            product(false, false, count, channels, length, h.scale, slopes.data(), h.k.data(), 0,
                    dq.data() + start * channels);
            product(true, false, length, channels, count, h.scale, slopes.data(), h.q.data() + start * channels,
                    start > 0, dk.data());
        }
        int64_t first = 3 * head * channels;
        rows<T, L, false>(dqkv, from, n, first, channels, dq.data());
        rows<T, L, false>(dqkv, from, n, first + channels, channels, dk.data());
        rows<T, L, false>(dqkv, from, n, first + 2 * channels, channels, dv.data());
    }
}

}  // namespace iidm
