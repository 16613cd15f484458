// Convolutions by oneDNN on activations in the layouts of layout.h, with weights in the layout that it wants.
#include <dnnl.hpp>
#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

namespace iidm {

using dnnl::memory;
using tag = memory::format_tag;
using Arguments = std::unordered_map<int, memory>;

inline dnnl::engine& cpu() {
    static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    return engine;
}

// What a convolution is. block: of channels, 0 is bf16 with channels last; sum: adds to what the output
// holds; relu: follows; wide: the result is fp32 in any case. Stride 1 is padded all around to keep the size,
// 2 on the right and below to halve it.
struct Geometry {
    int64_t batch, in, out, height, width, kernel, stride, block;
    bool sum, relu, winograd, wide;

    template <class Data>
    explicit Geometry(Data& data) :
        batch(data["batch"]), in(data["in_channels"]), out(data["out_channels"]), height(data["height"]),
        width(data["width"]), kernel(data["kernel"]), stride(data["stride"]), block(data["block"]),
        sum(data["sum"]), relu(data["relu"]), winograd(data["winograd"]), wide(data["wide"]) {}

    std::vector<int64_t> key() const {
        return {batch, in, out, height, width, kernel, stride, block, sum, relu, winograd, wide};
    }
    memory::data_type type() const { return block ? memory::data_type::f32 : memory::data_type::bf16; }
    memory::desc activation(int64_t channels, int64_t factor, memory::data_type kind) const {
        auto layout = block == 16 ? tag::nChw16c : block == 8 ? tag::nChw8c : tag::nhwc;
        return {{batch, channels, height / factor, width / factor}, kind, layout};
    }
    memory::desc source() const { return activation(in, 1, type()); }
    memory::desc result() const { return activation(out, stride, wide ? memory::data_type::f32 : type()); }
    memory::dims shape() const { return {out, in, kernel, kernel}; }
    memory::desc any() const { return {shape(), type(), tag::any}; }
    memory::desc plain(memory::data_type kind = memory::data_type::f32) const {
        return {shape(), kind, tag::oihw};
    }
    memory::desc bias() const { return {{out}, memory::data_type::f32, tag::x}; }
    memory::dims strides() const { return {stride, stride}; }
    memory::dims after() const { return {kernel / 2, kernel / 2}; }
    memory::dims before() const { return stride == 1 ? after() : memory::dims{0, 0}; }
};

// make(algorithm) by Winograd's where it is allowed and oneDNN has it (on AVX-512, for some sizes).
template <class Make>
auto by_algorithm(bool winograd, Make make) -> decltype(make(dnnl::algorithm::convolution_direct)) {
    if (winograd) try {
        return make(dnnl::algorithm::convolution_winograd);
    } catch (const dnnl::error&) {}
    return make(dnnl::algorithm::convolution_direct);
}

inline dnnl::convolution_forward::primitive_desc describe(const Geometry& g, dnnl::prop_kind kind,
                                                          dnnl::algorithm algorithm) {
    dnnl::primitive_attr attributes;
    dnnl::post_ops after;
    if (g.sum) after.append_sum(1.f);
    if (g.relu) after.append_eltwise(1.f, dnnl::algorithm::eltwise_relu, 0.f, 0.f);
    attributes.set_post_ops(after);
    return {{kind, algorithm, g.source(), g.any(), g.bias(), g.result(), g.strides(), g.before(), g.after()},
            attributes, cpu()};
}

inline void reorder(memory from, memory to) {
    dnnl::stream stream(cpu());
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
}

template <class Primitive>
void run(const Primitive& primitive, const Arguments& arguments) {
    dnnl::stream stream(cpu());
    primitive.execute(stream, arguments);
    stream.wait();
}

struct Convolution {
    dnnl::convolution_forward::primitive_desc description;
    dnnl::convolution_forward run;
};

// The primitive for inference, made at its first use.
inline const Convolution& convolution(const Geometry& g) {
    static std::map<std::vector<int64_t>, Convolution> made;
    auto found = made.find(g.key());
    if (found != made.end()) return found->second;
    auto other = g;
    other.sum = !g.sum;                     // the weights, packed once, are used with a sum and without one
    auto description = by_algorithm(g.winograd, [&](dnnl::algorithm algorithm) {
        auto kind = dnnl::prop_kind::forward_inference;
        auto found = describe(g, kind, algorithm);
        if (found.weights_desc() != describe(other, kind, algorithm).weights_desc())
            throw dnnl::error(dnnl_unimplemented, "a sum wants the weights of a convolution in another layout");
        return found;
    });
    return made.emplace(g.key(), Convolution{description, dnnl::convolution_forward(description)}).first->second;
}

// out_channels x in_channels x kernel x kernel -> the layout that the primitive wants. With room for one
// number only, the number is how many that takes (exact: it is a multiple of 16 and below 2^28).
template <class Data>
void pack(Data& data, void* plain, float* packed, int64_t room) {
    Geometry g(data);
    auto layout = convolution(g).description.weights_desc();
    auto kind = data["half"] ? memory::data_type::bf16 : memory::data_type::f32;
    if (room == 1)
        packed[0] = (layout.get_size() + sizeof(float) - 1) / sizeof(float);
    else
        reorder(memory(g.plain(kind), cpu(), plain), memory(layout, cpu(), packed));
}

// y = x * weights + bias, and where `sum` is set plus `residual`, which is not read otherwise. Images go one by
// one, so that a result does not depend on its batch.
template <class Data>
void convolve(Data& data, void* x, float* packed, float* bias, const void* residual, void* y) {
    Geometry g(data);
    int64_t images = g.batch;
    g.batch = 1;
    auto& made = convolution(g);
    size_t from = g.source().get_size(), to = g.result().get_size();
    if (g.sum) std::memcpy(y, residual, images * to);
    for (int64_t n = 0; n < images; n++)
        run(made.run, {{DNNL_ARG_SRC, memory(g.source(), cpu(), static_cast<char*>(x) + n * from)},
                       {DNNL_ARG_WEIGHTS, memory(made.description.weights_desc(), cpu(), packed)},
                       {DNNL_ARG_BIAS, memory(g.bias(), cpu(), bias)},
                       {DNNL_ARG_DST, memory(g.result(), cpu(), static_cast<char*>(y) + n * to)}});
}

}  // namespace iidm
