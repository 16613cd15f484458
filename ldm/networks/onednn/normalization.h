// Group normalisation, modulation, the timestep's scale and shift and SiLU in two passes over the activation.
#include <cmath>
#include <vector>

namespace iidm {

// The position in a map of `given` rows or columns that stands for position i of `size`: the map is whole, or
// folded to what its border (first, last) and its inside (all the same) hold.
inline int64_t folded(int64_t i, int64_t size, int64_t given) {
    return given == size ? i : i == 0 ? 0 : i == size - 1 ? given - 1 : given / 2;
}

// Mean and reciprocal standard deviation of each channel's group. Moments are taken of what differs from the
// channel's first value, in rows of fp32 summed in fp64, so that a large mean costs no digits.
template <int B>
void statistics(const float* x, int64_t blocks, int64_t height, int64_t width, int64_t groups, float eps,
                std::vector<float>& mean, std::vector<float>& scale) {
    int64_t n = height * width, channels = blocks * B, share = channels / groups;
    std::vector<double> means(channels), variances(channels);
    #pragma omp parallel for
    for (int64_t block = 0; block < blocks; block++) {
        const float* first = x + block * n * B;
        double sums[B] = {}, squares[B] = {};
        for (int64_t row = 0; row < height; row++) {
            const float* p = first + row * width * B;
            float sum[B] = {}, square[B] = {};
            for (int64_t column = 0; column < width; column++)
                #pragma omp simd
                for (int lane = 0; lane < B; lane++) {
                    float d = p[column * B + lane] - first[lane];
                    sum[lane] += d;
                    square[lane] += d * d;
                }
            for (int lane = 0; lane < B; lane++) sums[lane] += sum[lane], squares[lane] += square[lane];
        }
        for (int lane = 0; lane < B; lane++) {
            double d = sums[lane] / n;
            means[block * B + lane] = first[lane] + d;
            variances[block * B + lane] = squares[lane] / n - d * d;
        }
    }
    for (int64_t start = 0; start < channels; start += share) {
        double m = 0, v = 0;
        for (int64_t c = start; c < start + share; c++) m += means[c] / share;
        for (int64_t c = start; c < start + share; c++)
            v += (variances[c] + (means[c] - m) * (means[c] - m)) / share;
        for (int64_t c = start; c < start + share; c++) mean[c] = m, scale[c] = 1 / std::sqrt(v + eps);
    }
}

// y = act((norm(x) gain + offset) (1 + emb[c]) + emb[channels + c]), act SiLU or nothing. gain and offset are
// maps of rows x columns, whole or folded.
template <int B, bool SILU>
void normalize(const float* x, const float* gain, const float* offset, const float* emb, float* y,
               int64_t blocks, int64_t height, int64_t width, int64_t rows, int64_t columns, int64_t groups,
               float eps) {
    int64_t channels = blocks * B;
    std::vector<float> mean(channels), scale(channels);
    statistics<B>(x, blocks, height, width, groups, eps, mean, scale);
    #pragma omp parallel for collapse(2)
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t row = 0; row < height; row++) {
            int64_t from = (block * height + row) * width * B;
            int64_t map = (block * rows + folded(row, height, rows)) * columns * B;
            float m[B], r[B], e[B], f[B];
            for (int lane = 0; lane < B; lane++) {
                int64_t c = block * B + lane;
                m[lane] = mean[c], r[lane] = scale[c];
                e[lane] = 1 + emb[c], f[lane] = emb[channels + c];
            }
            for (int64_t column = 0; column < width; column++) {
                const float* p = x + from + column * B;
                const float* g = gain + map + folded(column, width, columns) * B;
                const float* o = offset + map + folded(column, width, columns) * B;
                float* q = y + from + column * B;
                #pragma omp simd
                for (int lane = 0; lane < B; lane++) {
                    float v = ((p[lane] - m[lane]) * r[lane] * g[lane] + o[lane]) * e[lane] + f[lane];
                    q[lane] = SILU ? v * sigmoid(v) : v;
                }
            }
        }
}

}  // namespace iidm
