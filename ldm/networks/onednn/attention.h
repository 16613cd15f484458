// Self-attention over positions on activations in blocks of channels, C/B x L x B.
#include <dnnl.h>
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace iidm {

// A product by oneDNN of matrices row by row: y = scale a op(b). False where it refuses: y holds nothing then.
inline bool product(bool turned, int64_t m, int64_t n, int64_t k, float scale, const float* a, const float* b,
                    float* y) {
    return dnnl_sgemm('N', turned ? 'T' : 'N', m, n, k, scale, a, k, b, turned ? k : n, 0, y, n)
           == dnnl_success;
}

// `channels` of all positions between blocks (channels/B x L x B) and rows (L x channels).
template <int B>
void gather(const float* blocks, int64_t length, int64_t channels, float* rows) {
    for (int64_t block = 0; block < channels / B; block++)
        for (int64_t i = 0; i < length; i++)
            for (int lane = 0; lane < B; lane++)
                rows[i * channels + block * B + lane] = blocks[(block * length + i) * B + lane];
}

template <int B>
void scatter(const float* rows, int64_t length, int64_t channels, float* blocks) {
    for (int64_t block = 0; block < channels / B; block++)
        for (int64_t i = 0; i < length; i++)
            for (int lane = 0; lane < B; lane++)
                blocks[(block * length + i) * B + lane] = rows[i * channels + block * B + lane];
}

inline void softmax(float* row, int64_t length) {
    float top = *std::max_element(row, row + length), sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < length; i++) {
        row[i] = std::exp(row[i] - top);
        sum += row[i];
    }
    for (int64_t i = 0; i < length; i++) row[i] /= sum;
}

const int64_t ROWS = 512;       // of queries at a time: 12,288 positions would need a matrix of 604 MB

// softmax(q k^T / sqrt(channels)) v for each head; q, k and v of a head lie side by side in `qkv`. Several
// heads share the threads; a single one leaves them to the products.
template <int B>
void attend(const float* qkv, float* y, int64_t heads, int64_t length, int64_t channels) {
    int64_t size = length * channels;
    bool done = true;           // no exception may leave a thread
    #pragma omp parallel for if (heads > 1) reduction(&& : done)
    for (int64_t head = 0; head < heads; head++) {
        std::vector<float> q(size), k(size), v(size), weights(std::min(ROWS, length) * length);
        const float* from = qkv + head * 3 * size;
        gather<B>(from, length, channels, q.data());
        gather<B>(from + size, length, channels, k.data());
        gather<B>(from + 2 * size, length, channels, v.data());
        for (int64_t start = 0; start < length; start += ROWS) {
            int64_t rows = std::min(ROWS, length - start);
            float* chunk = q.data() + start * channels;         // of queries, then of the result
            done = done && product(true, rows, length, channels, 1 / std::sqrt(float(channels)), chunk, k.data(),
                                   weights.data());
            #pragma omp parallel for
            for (int64_t i = 0; i < rows; i++) softmax(weights.data() + i * length, length);
            done = done && product(false, rows, channels, length, 1, weights.data(), v.data(), chunk);
        }
        scatter<B>(q.data(), length, channels, y + head * size);
    }
    if (!done) throw std::runtime_error("oneDNN refused a product of attention");
}

}  // namespace iidm
