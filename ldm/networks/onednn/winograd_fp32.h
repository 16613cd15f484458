// 3 x 3 convolutions in fp32 by Winograd's algorithm F(4 x 4, 3 x 3) (Lavin and Gray 2016, section 4.3), and
// their gradients, on activations in blocks of B channels. For AVX2: oneDNN has the algorithm for AVX-512
// only. Symbols are the paper's: d a tile of 6 x 6 of the map, V = B^T d B, U = G g G^T of the weights, M the
// 36 products of matrices, A^T M A 4 x 4 results. The gradient of g is the transpose of all this: G^T dU G,
// where dU is the sum of V W over all tiles, and W = A dy A^T.
#include <omp.h>
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace iidm {
namespace winograd {

// CHUNK tiles go through at a time, so that their V and M stay in a core's cache. Rows and points lie PAD
// numbers further apart than they need to: else they would share a few lines of the cache.
constexpr int64_t CHUNK = 48, POINTS = 36, PAD = 16;

// A product's rows; its ROWS x LANES sums stay in registers.
template <int B>
constexpr int64_t rows() { return B == 8 ? 6 : 12; }

template <int B>
struct Vector {
    typedef float type __attribute__((vector_size(4 * B)));
};

template <int B>
inline typename Vector<B>::type get(const float* p) {
    typename Vector<B>::type v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

template <class V>
inline void put(float* p, V v) { std::memcpy(p, &v, sizeof v); }

// What is convolved: `in` to `out` channels, blocks of B. For the gradient of x the two are exchanged.
template <int B>
struct Map {
    static constexpr int64_t LANES = 2 * B;             // channels of a panel of results
    int64_t batch, height, width, in, out;
    int64_t across() const { return (width + 3) / 4; }
    int64_t tiles() const { return (height + 3) / 4 * across(); }
    int64_t chunks() const { return (batch * tiles() + CHUNK - 1) / CHUNK; }
    int64_t panels() const { return out / LANES; }
    int64_t row() const { return in + PAD; }            // of V: POINTS x CHUNK x row
    int64_t point() const { return CHUNK * row() + PAD; }
    int64_t whole() const { return (in + rows<B>() - 1) / rows<B>() * rows<B>(); }      // of dU
    template <class Data>
    explicit Map(Data& data, bool exchanged = false) : batch(data["batch"]), height(data["height"]),
        width(data["width"]), in(data[exchanged ? "out_channels" : "in_channels"]),
        out(data[exchanged ? "in_channels" : "out_channels"]) {}
};

// Where a tile is: its image, and the place of its first result.
struct Tile {
    int64_t image, top, left;
    template <int B>
    Tile(const Map<B>& m, int64_t t) : image(t / m.tiles()), top(t % m.tiles() / m.across() * 4),
        left(t % m.across() * 4) {}
};

// Memory that lasts from call to call; one piece for each purpose.
inline float* room(int purpose, int64_t numbers) {
    static std::vector<float> pieces[3];
    if (int64_t(pieces[purpose].size()) < numbers) pieces[purpose].resize(numbers);
    return pieces[purpose].data();
}
enum { OF_V, OF_W, OF_U };

// The polynomials' points are 0, +-P, +-Q and infinity. With P Q = 1 they are easy to multiply by, and with
// these two, rounding errors are 0.45 of those with the usual 1 and 2 (on the choice: Barabasz et al. 2020,
// "Error analysis and improving the accuracy of Winograd convolution for deep neural networks").
constexpr float P = 2 / 3.f, Q = 1.5f, P2 = 4 / 9.f, Q2 = 2.25f, BOTH = P2 + Q2;

// The one-dimensional parts, on vectors that are `step` apart.
template <class V>
inline void input(V* d, int64_t step) {                 // B^T d
    V far = d[4 * step] - Q2 * d[2 * step], far_odd = P * d[3 * step] - Q * d[step];
    V near = d[4 * step] - P2 * d[2 * step], near_odd = Q * d[3 * step] - P * d[step];
    V last = d[5 * step] + d[step] - BOTH * d[3 * step];
    d[0] += d[4 * step] - BOTH * d[2 * step], d[step] = far + far_odd, d[2 * step] = far - far_odd;
    d[3 * step] = near + near_odd, d[4 * step] = near - near_odd, d[5 * step] = last;
}

template <class V>
inline void output(const V* m, V* y, int64_t step) {    // A^T m
    V s = m[step] + m[2 * step], d = m[step] - m[2 * step];
    V t = m[3 * step] + m[4 * step], e = m[3 * step] - m[4 * step];
    y[0] = m[0] + s + t, y[step] = P * d + Q * e, y[2 * step] = P2 * s + Q2 * t;
    y[3 * step] = P * P2 * d + Q * Q2 * e + m[5 * step];
}

template <class V>
inline void spread(const V* y, V* w, int64_t step) {    // A y
    V near = y[0] + P2 * y[2 * step], near_odd = P * y[step] + P * P2 * y[3 * step];
    V far = y[0] + Q2 * y[2 * step], far_odd = Q * y[step] + Q * Q2 * y[3 * step];
    w[0] = y[0], w[step] = near + near_odd, w[2 * step] = near - near_odd, w[3 * step] = far + far_odd;
    w[4 * step] = far - far_odd, w[5 * step] = y[3 * step];
}

// 1 / (2 P^2 (P^2 - Q^2)) and 1 / (2 Q^2 (Q^2 - P^2)).
constexpr float OF_P = .5f / (P2 * (P2 - Q2)), OF_Q = .5f / (Q2 * (Q2 - P2));

template <class V>
inline void filter(const V* g, V* u, int64_t step) {    // G g
    V near = OF_P * g[0] + OF_P * P2 * g[2 * step], near_odd = OF_P * P * g[step];
    V far = OF_Q * g[0] + OF_Q * Q2 * g[2 * step], far_odd = OF_Q * Q * g[step];
    u[0] = g[0], u[step] = near + near_odd, u[2 * step] = near - near_odd;
    u[3 * step] = far + far_odd, u[4 * step] = far - far_odd, u[5 * step] = g[2 * step];
}

template <class V>
inline void unfilter(const V* u, V* g, int64_t step) {  // G^T u
    V s = OF_P * (u[step] + u[2 * step]), d = OF_P * P * (u[step] - u[2 * step]);
    V t = OF_Q * (u[3 * step] + u[4 * step]), e = OF_Q * Q * (u[3 * step] - u[4 * step]);
    g[0] = u[0] + s + t, g[step] = d + e, g[2 * step] = P2 * s + Q2 * t + u[5 * step];
}

// Weights out x in x 3 x 3 -> U, POINTS x panels x in x LANES. exchanged: in x out x 3 x 3, turned round, for
// the gradient of x.
template <int B>
void transform(const Map<B>& m, const float* plain, float* u, bool exchanged) {
    using V = typename Vector<B>::type;
    const int64_t across = exchanged ? 9 : 9 * m.in, down = exchanged ? 9 * m.out : 9;
    #pragma omp parallel for collapse(2)
    for (int64_t o = 0; o < m.out; o += B)
        for (int64_t i = 0; i < m.in; i++) {
            const float* from = plain + o * across + i * down;
            V g[9], half[18], whole[36];
            for (int64_t k = 0; k < 9; k++)
                for (int64_t lane = 0; lane < B; lane++)
                    g[k][lane] = from[lane * across + (exchanged ? 8 - k : k)];
            for (int64_t c = 0; c < 3; c++) filter(g + c, half + c, 3);
            for (int64_t r = 0; r < 6; r++) filter(half + 3 * r, whole + 6 * r, 1);
            float* to = u + (o / m.LANES * m.in + i) * m.LANES + o % m.LANES;
            for (int64_t k = 0; k < POINTS; k++) put(to + k * m.in * m.out, whole[k]);
        }
}

// V of a tile of x, at its place in POINTS x CHUNK x row.
template <int B>
void enter(const Map<B>& m, const float* x, float* v, int64_t t, int64_t place) {
    using V = typename Vector<B>::type;
    const Tile at(m, t);
    const int64_t area = m.height * m.width;
    const float* image = x + at.image * area * m.in;
    for (int64_t c = 0; c < m.in; c += B) {
        V d[36];
        for (int64_t i = 0; i < 6; i++)
            for (int64_t j = 0; j < 6; j++) {
                int64_t y = at.top + i - 1, z = at.left + j - 1;
                bool inside = y >= 0 && y < m.height && z >= 0 && z < m.width;
                d[6 * i + j] = inside ? get<B>(image + c * area + (y * m.width + z) * B) : V{};
            }
        for (int64_t j = 0; j < 6; j++) input(d + j, 6);
        for (int64_t i = 0; i < 6; i++) input(d + 6 * i, 1);
        float* to = v + place * m.row() + c;
        for (int64_t k = 0; k < POINTS; k++) put(to + k * m.point(), d[k]);
    }
}

// ROWS x LANES products: `rows` of a, `deep` numbers each, times a panel of deep x LANES.
template <int B>
inline void multiply(const float* a, int64_t row, int64_t step, const float* panel, int64_t deep, float* m,
                     bool add) {
    using V = typename Vector<B>::type;
    constexpr int64_t ROWS = rows<B>();
    V sums[ROWS][2] = {};
    for (int64_t i = 0; i < deep; i++) {
        V low = get<B>(panel + i * 2 * B), high = get<B>(panel + i * 2 * B + B);
        #pragma GCC unroll 16
        for (int64_t r = 0; r < ROWS; r++) {
            float each = a[r * row + i * step];
            sums[r][0] += each * low, sums[r][1] += each * high;
        }
    }
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t half = 0; half < 2; half++) {
            float* to = m + (2 * r + half) * B;
            put(to, add ? get<B>(to) + sums[r][half] : sums[r][half]);
        }
}

// A^T M A + bias (+ residual) of B channels of a tile; M's points are `step` apart.
template <int B>
void leave(const Map<B>& m, const float* products, int64_t step, const float* bias, const float* residual,
           float* y, int64_t t, int64_t channel, bool relu) {
    using V = typename Vector<B>::type;
    const Tile at(m, t);
    V p[36], half[24], whole[16];
    for (int64_t k = 0; k < POINTS; k++) p[k] = get<B>(products + k * step);
    for (int64_t j = 0; j < 6; j++) output(p + j, half + j, 6);
    for (int64_t i = 0; i < 4; i++) output(half + 6 * i, whole + 4 * i, 1);
    const int64_t first = (at.image * m.out + channel) * m.height * m.width;
    for (int64_t i = 0; i < 4 && at.top + i < m.height; i++)
        for (int64_t j = 0; j < 4 && at.left + j < m.width; j++) {
            const int64_t to = first + ((at.top + i) * m.width + at.left + j) * B;
            V value = whole[4 * i + j];
            if (bias) value += get<B>(bias + channel);
            if (residual) value += get<B>(residual + to);
            put(y + to, relu ? (value > 0 ? value : V{}) : value);
        }
}

// x -> y by U. Each thread takes a chunk or, of a small map, some of its panels. A result depends neither on
// the threads nor on the other images of the batch.
template <int B>
void multiplied(const Map<B>& m, const float* x, const float* u, const float* bias, const float* residual,
                float* y, bool relu) {
    constexpr int64_t ROWS = rows<B>(), LANES = Map<B>::LANES, STEP = CHUNK * LANES + PAD;
    const int64_t chunks = m.chunks(), all = m.batch * m.tiles(), size = POINTS * m.point();
    const int64_t together = std::min<int64_t>(chunks, omp_get_max_threads());
    float* v = room(OF_V, together * size);
    #pragma omp parallel
    {
        std::vector<float> products(POINTS * STEP);
        for (int64_t from = 0; from < chunks; from += together) {
            const int64_t first = from * CHUNK, end = std::min(all, first + together * CHUNK);
            #pragma omp for
            for (int64_t t = first; t < end; t++) enter(m, x, v + (t - first) / CHUNK * size, t, t % CHUNK);
            #pragma omp for collapse(2)
            for (int64_t c = 0; c < together; c++)
                for (int64_t panel = 0; panel < m.panels(); panel++) {
                    const int64_t start = first + c * CHUNK, here = std::min(CHUNK, end - start);
                    for (int64_t k = 0; k < POINTS; k++)
                        for (int64_t r = 0; r < here; r += ROWS)
                            multiply<B>(v + c * size + k * m.point() + r * m.row(), m.row(), 1,
                                        u + (k * m.panels() + panel) * m.in * LANES, m.in,
                                        products.data() + k * STEP + r * LANES, false);
                    for (int64_t t = 0; t < here; t++)
                        for (int64_t half = 0; half < LANES; half += B)
                            leave(m, products.data() + t * LANES + half, STEP, bias, residual, y, start + t,
                                  panel * LANES + half, relu);
                }
        }
    }
}

// W of a tile of dy, at its place in POINTS x panels x CHUNK x LANES.
template <int B>
void enter_gradient(const Map<B>& m, const float* dy, float* w, int64_t t, int64_t place) {
    using V = typename Vector<B>::type;
    constexpr int64_t LANES = Map<B>::LANES;
    const Tile at(m, t);
    for (int64_t o = 0; o < m.out; o += B) {
        const float* image = dy + (at.image * m.out + o) * m.height * m.width;
        V y[16], half[24], whole[36];
        for (int64_t i = 0; i < 4; i++)
            for (int64_t j = 0; j < 4; j++) {
                bool inside = at.top + i < m.height && at.left + j < m.width;
                y[4 * i + j] = inside ? get<B>(image + ((at.top + i) * m.width + at.left + j) * B) : V{};
            }
        for (int64_t j = 0; j < 4; j++) spread(y + j, half + j, 4);
        for (int64_t i = 0; i < 6; i++) spread(half + 4 * i, whole + 6 * i, 1);
        float* to = w + (o / LANES * CHUNK + place) * LANES + o % LANES;
        for (int64_t k = 0; k < POINTS; k++) put(to + k * (CHUNK * m.out + PAD), whole[k]);
    }
}

// dU, POINTS x panels x whole x LANES -> out x in x 3 x 3.
template <int B>
void unpack(const Map<B>& m, const float* du, float* dw) {
    using V = typename Vector<B>::type;
    #pragma omp parallel for collapse(2)
    for (int64_t o = 0; o < m.out; o += B)
        for (int64_t i = 0; i < m.in; i++) {
            const float* from = du + (o / m.LANES * m.whole() + i) * m.LANES + o % m.LANES;
            V whole[36], half[18], g[9];
            for (int64_t k = 0; k < POINTS; k++) whole[k] = get<B>(from + k * m.whole() * m.out);
            for (int64_t c = 0; c < 6; c++) unfilter(whole + c, half + c, 6);
            for (int64_t r = 0; r < 3; r++) unfilter(half + 6 * r, g + 3 * r, 1);
            for (int64_t k = 0; k < 9; k++)
                for (int64_t lane = 0; lane < B; lane++) dw[((o + lane) * m.in + i) * 9 + k] = g[k][lane];
        }
}

// dU of all tiles, from V and W of a chunk at a time. The order of sums is the same on any threads. Rows from
// `in` on are filled with what nobody reads.
template <int B>
float* weights_gradient(const Map<B>& m, const float* x, const float* dy) {
    constexpr int64_t LANES = Map<B>::LANES;
    const int64_t all = m.batch * m.tiles(), step = CHUNK * m.out + PAD;
    float *v = room(OF_V, POINTS * m.point()), *w = room(OF_W, POINTS * step);
    float* du = room(OF_U, POINTS * m.whole() * m.out);
    #pragma omp parallel
    for (int64_t first = 0; first < all; first += CHUNK) {
        const int64_t here = std::min(CHUNK, all - first);
        #pragma omp for
        for (int64_t t = 0; t < here; t++)
            enter(m, x, v, first + t, t), enter_gradient(m, dy, w, first + t, t);
        #pragma omp for
        for (int64_t k = 0; k < POINTS; k++)
            for (int64_t panel = 0; panel < m.panels(); panel++)
                for (int64_t i = 0; i < m.in; i += rows<B>())
                    multiply<B>(v + k * m.point() + i, 1, m.row(), w + k * step + panel * CHUNK * LANES, here,
                                du + ((k * m.panels() + panel) * m.whole() + i) * LANES, first > 0);
    }
    return du;
}

template <int B>
void bias_gradient(const Map<B>& m, const float* dy, float* db) {
    using V = typename Vector<B>::type;
    const int64_t area = m.height * m.width;
    #pragma omp parallel for
    for (int64_t o = 0; o < m.out; o += B) {
        V sum = {};
        for (int64_t n = 0; n < m.batch; n++) {
            V image = {};
            for (int64_t at = 0; at < area; at++) image += get<B>(dy + (n * m.out + o) * area + at * B);
            sum += image;
        }
        put(db + o, sum);
    }
}

// As iidm::pack and iidm::convolve in convolution.h.
template <int B, class Data>
void pack(Data& data, const float* weights, float* u) { transform(Map<B>(data), weights, u, false); }

template <int B, class Data>
void convolve(Data& data, const float* x, const float* u, const float* bias, const float* residual,
              float* y) {
    multiplied(Map<B>(data), x, u, bias, data["sum"] ? residual : nullptr, y, data["relu"]);
}

// As iidm::forward, iidm::backward_data and iidm::backward_weights in gradients.h.
template <int B, class Data>
void forward(Data& data, const float* x, const float* weights, const float* bias, float* y) {
    const Map<B> m(data);
    float* u = room(OF_U, POINTS * m.in * m.out);
    transform(m, weights, u, false);
    multiplied(m, x, u, bias, nullptr, y, data["relu"]);
}

template <int B, class Data>
void backward_data(Data& data, const float* weights, const float* dy, float* dx) {
    const Map<B> m(data, true);
    float* u = room(OF_U, POINTS * m.in * m.out);
    transform(m, weights, u, true);
    multiplied<B>(m, dy, u, nullptr, nullptr, dx, false);
}

template <int B, class Data>
void backward_weights(Data& data, const float* x, const float* dy, float* dw, float* db) {
    const Map<B> m(data);
    unpack(m, weights_gradient(m, x, dy), dw);
    bias_gradient(m, dy, db);
}

}  // namespace winograd
}  // namespace iidm
