// 3 x 3 convolutions in bf16 by Winograd's algorithm F(2 x 2, 3 x 3) (Lavin and Gray 2016, section 4.1), for
// AVX512_BF16 without AMX; oneDNN has the algorithm in fp32 only. Symbols are the paper's: d a tile of 4 x 4
// of the map, U = G g G^T of the weights, V = B^T d B, M the 16 products of matrices, A^T M A 2 x 2 results.
// M is fp32.
#include <immintrin.h>
#include <omp.h>
#include <algorithm>
#include <memory>

namespace iidm {
namespace winograd {

// Products: ROWS tiles by LANES channels, whose 24 sums stay in registers. CHUNK tiles go through at a time,
// so that their V and M stay in a core's cache.
constexpr int64_t ROWS = 12, LANES = 32, CHUNK = 48, POINTS = 16;

struct Map {
    int64_t height, width, in, out;
    int64_t across() const { return (width + 1) / 2; }
    int64_t tiles() const { return (height + 1) / 2 * across(); }
    int64_t panels() const { return out / LANES; }
    template <class Data>
    explicit Map(Data& data) : height(data["height"]), width(data["width"]), in(data["in_channels"]),
        out(data["out_channels"]) {}
};

// Weights out x in x 3 x 3 -> U, POINTS x panels x in / 2 x LANES x 2: pairs of inputs, as the processor
// needs them.
template <class Data>
void pack(Data& data, const bf16* plain, bf16* u) {
    const Map m(data);
    static const float G[4][3] = {{1, 0, 0}, {.5f, .5f, .5f}, {.5f, -.5f, .5f}, {0, 0, 1}};
    #pragma omp parallel for
    for (int64_t o = 0; o < m.out; o++) {
        Diffusion rounded[POINTS];
        for (int64_t i = 0; i < m.in; i++) {
            const bf16* g = plain + (o * m.in + i) * 9;
            for (int64_t k = 0; k < POINTS; k++) {
                float sum = 0;
                for (int r = 0; r < 3; r++)
                    for (int c = 0; c < 3; c++) sum += G[k / 4][r] * G[k % 4][c] * load(g + 3 * r + c);
                int64_t panel = (k * m.panels() + o / LANES) * m.in / 2;
                u[((panel + i / 2) * LANES + o % LANES) * 2 + i % 2] = rounded[k](sum);
            }
        }
    }
}

inline __m512 widened(const bf16* p) {
    auto bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

inline void put(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
inline void put(bf16* p, __m512 v) {
    auto bits = _mm512_cvtneps_pbh(v);
    std::memcpy(p, &bits, sizeof bits);
}

// V of a tile, at its place in POINTS x CHUNK x in; zeros of a tile that fills up the last chunk.
inline void enter(const Map& m, const bf16* x, bf16* v, int64_t tile, int64_t place) {
    const int64_t step = CHUNK * m.in, top = tile / m.across() * 2 - 1, left = tile % m.across() * 2 - 1;
    v += place * m.in;
    if (tile >= m.tiles()) {
        for (int64_t k = 0; k < POINTS; k++) std::memset(v + k * step, 0, m.in * sizeof(bf16));
        return;
    }
    for (int64_t c = 0; c < m.in; c += 16) {
        __m512 d[4][4];
        for (int64_t i = 0; i < 4; i++)
            for (int64_t j = 0; j < 4; j++) {
                int64_t y = top + i, z = left + j;
                bool inside = y >= 0 && y < m.height && z >= 0 && z < m.width;
                d[i][j] = inside ? widened(x + (y * m.width + z) * m.in + c) : _mm512_setzero_ps();
            }
        for (int64_t j = 0; j < 4; j++) {
            __m512 first = d[0][j] - d[2][j], last = d[1][j] - d[3][j];
            __m512 sum = d[1][j] + d[2][j], difference = d[2][j] - d[1][j];
            d[0][j] = first, d[1][j] = sum, d[2][j] = difference, d[3][j] = last;
        }
        for (int64_t i = 0; i < 4; i++) {
            bf16* row = v + 4 * i * step + c;
            put(row, d[i][0] - d[i][2]), put(row + step, d[i][1] + d[i][2]);
            put(row + 2 * step, d[i][2] - d[i][1]), put(row + 3 * step, d[i][1] - d[i][3]);
        }
    }
}

// M of one point, ROWS x LANES = V, ROWS x in, times a panel of U.
inline void multiply(const bf16* v, const bf16* u, float* products, int64_t in) {
    __m512 sums[ROWS][2];
    for (int64_t r = 0; r < ROWS; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (int64_t i = 0; i < in; i += 2) {
        auto low = (__m512bh)_mm512_loadu_si512(u + i * LANES);
        auto high = (__m512bh)_mm512_loadu_si512(u + i * LANES + LANES);
        #pragma GCC unroll 12
        for (int64_t r = 0; r < ROWS; r++) {
            int32_t pair;
            std::memcpy(&pair, v + r * in + i, sizeof pair);
            auto both = (__m512bh)_mm512_set1_epi32(pair);
            sums[r][0] = _mm512_dpbf16_ps(sums[r][0], both, low);
            sums[r][1] = _mm512_dpbf16_ps(sums[r][1], both, high);
        }
    }
    for (int64_t r = 0; r < ROWS; r++)
        put(products + r * LANES, sums[r][0]), put(products + r * LANES + 16, sums[r][1]);
}

// A^T M A + bias of a tile, 16 channels from `first` on; M is POINTS x CHUNK x LANES from that tile's 16 on.
template <class T>
void leave(const Map& m, const float* products, const float* bias, T* y, int64_t tile, int64_t first,
           bool relu) {
    const int64_t top = tile / m.across() * 2, left = tile % m.across() * 2;
    __m512 s[2][4];
    for (int64_t j = 0; j < 4; j++) {
        __m512 p[4];
        for (int64_t i = 0; i < 4; i++) p[i] = _mm512_loadu_ps(products + (4 * i + j) * CHUNK * LANES);
        s[0][j] = p[0] + p[1] + p[2], s[1][j] = p[1] - p[2] - p[3];
    }
    for (int64_t i = 0; i < 2 && top + i < m.height; i++) {
        __m512 pair[2] = {s[i][0] + s[i][1] + s[i][2], s[i][1] - s[i][2] - s[i][3]};
        for (int64_t j = 0; j < 2 && left + j < m.width; j++) {
            __m512 value = pair[j] + _mm512_loadu_ps(bias + first);
            put(y + ((top + i) * m.width + left + j) * m.out + first,
                relu ? _mm512_max_ps(value, _mm512_setzero_ps()) : value);
        }
    }
}

// x, height x width x in, with channels last -> y, height x width x out, plus bias. Each thread takes a chunk
// or, of a small map, some of its panels; the order of sums is the same on any threads.
template <class T>
void image(const Map& m, const bf16* x, const bf16* u, const float* bias, T* y, bool relu) {
    const int64_t chunks = (m.tiles() + CHUNK - 1) / CHUNK;
    const int64_t together = std::min<int64_t>(chunks, omp_get_max_threads()), size = POINTS * CHUNK * m.in;
    std::unique_ptr<bf16[]> v(new bf16[together * size]);       // a vector would be filled with zeros first
    #pragma omp parallel
    {
        std::unique_ptr<float[]> products(new float[POINTS * CHUNK * LANES]);
        for (int64_t from = 0; from < chunks; from += together) {
            int64_t here = std::min(together, chunks - from);
            #pragma omp for
            for (int64_t t = 0; t < here * CHUNK; t++)
                enter(m, x, v.get() + t / CHUNK * size, from * CHUNK + t, t % CHUNK);
            #pragma omp for collapse(2)
            for (int64_t c = 0; c < here; c++)
                for (int64_t panel = 0; panel < m.panels(); panel++) {
                    for (int64_t k = 0; k < POINTS; k++)
                        for (int64_t r = 0; r < CHUNK; r += ROWS)
                            multiply(v.get() + c * size + (k * CHUNK + r) * m.in,
                                     u + (k * m.panels() + panel) * m.in * LANES,
                                     products.get() + (k * CHUNK + r) * LANES, m.in);
                    int64_t first = (from + c) * CHUNK, end = std::min(first + CHUNK, m.tiles());
                    for (int64_t t = first; t < end; t++)
                        for (int64_t half = 0; half < LANES; half += 16)
                            leave(m, products.get() + (t - first) * LANES + half, bias, y, t,
                                  panel * LANES + half, relu);
                }
        }
    }
}

// Images go one by one, so that a result does not depend on its batch.
template <class Data, class T>
void convolve(Data& data, const bf16* x, const bf16* u, const float* bias, T* y) {
    const Map m(data);
    const int64_t size = m.height * m.width;
    for (int64_t n = 0; n < data["batch"]; n++)
        image(m, x + n * size * m.in, u, bias, y + n * size * m.out, data["relu"]);
}

}  // namespace winograd
}  // namespace iidm
