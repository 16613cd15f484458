// Convolutions by oneDNN on activations in blocks of channels, C/B x H x W x B, with weights packed once.
#include <dnnl.hpp>
#include <cstring>
#include <map>
#include <vector>

namespace iidm {

using dnnl::memory;
using Primitive = dnnl::convolution_forward;

inline dnnl::engine& cpu() {
    static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    return engine;
}

inline memory::desc activation(int64_t channels, int64_t height, int64_t width, int64_t block) {
    using tag = memory::format_tag;
    return {{1, channels, height, width}, memory::data_type::f32, block == 16 ? tag::nChw16c : tag::nChw8c};
}

struct Convolution {
    Primitive::primitive_desc description;
    Primitive run;
};

// The primitive for these sizes, made at its first use. `data`: in_channels and out_channels (multiples of
// the block), height, width, kernel (1 or 3), stride (1, padded all around to keep the size, or 2, padded on
// the right and below to halve it), block, sum (1 adds to what the output holds), winograd (1 where allowed;
// oneDNN decides whether the sizes favour it, and has it for AVX-512 only).
template <class Data>
const Convolution& convolution(Data& data) {
    static std::map<std::vector<int64_t>, Convolution> made;
    std::vector<int64_t> key;
    for (auto name : {"in_channels", "out_channels", "height", "width", "kernel", "block", "sum",
                      "winograd", "stride"})
        key.push_back(int64_t(data[name]));
    auto found = made.find(key);
    if (found != made.end()) return found->second;

    int64_t in = key[0], out = key[1], height = key[2], width = key[3], kernel = key[4], block = key[5];
    int64_t stride = key[8], after = kernel / 2, before = stride == 1 ? after : 0;
    memory::desc weights({out, in, kernel, kernel}, memory::data_type::f32, memory::format_tag::any);
    memory::desc bias({out}, memory::data_type::f32, memory::format_tag::x);
    // With a sum or without one: the weights, packed once, are used by both.
    auto describe = [&](dnnl::algorithm algorithm, bool summed) {
        dnnl::primitive_attr attributes;
        dnnl::post_ops sum;
        if (summed) sum.append_sum(1.f);
        attributes.set_post_ops(sum);
        return Primitive::primitive_desc(
            {dnnl::prop_kind::forward_inference, algorithm, activation(in, height, width, block), weights,
             bias, activation(out, height / stride, width / stride, block), {stride, stride},
             {before, before}, {after, after}}, attributes, cpu());
    };
    auto of_one_layout = [&](dnnl::algorithm algorithm) {
        auto description = describe(algorithm, key[6]);
        if (description.weights_desc() != describe(algorithm, !key[6]).weights_desc())
            throw dnnl::error(dnnl_unimplemented, "a sum wants the weights of a convolution in another layout");
        return description;
    };
    Primitive::primitive_desc description;
    try {
        description = of_one_layout(key[7] ? dnnl::algorithm::convolution_winograd
                                           : dnnl::algorithm::convolution_direct);
    } catch (const dnnl::error&) {      // no Winograd for these sizes or on this processor
        description = of_one_layout(dnnl::algorithm::convolution_direct);
    }
    return made.emplace(key, Convolution{description, Primitive(description)}).first->second;
}

// out_channels x in_channels x kernel x kernel -> the layout that the primitive wants. With room for one
// number only, the number is how many that takes (exact: it is a multiple of 64 and below 2^30).
template <class Data>
void pack(Data& data, float* plain, float* packed, int64_t room) {
    auto layout = convolution(data).description.weights_desc();
    if (room == 1) {
        packed[0] = layout.get_size() / sizeof(float);
        return;
    }
    int64_t kernel = data["kernel"];
    memory from({{int64_t(data["out_channels"]), int64_t(data["in_channels"]), kernel, kernel},
                 memory::data_type::f32, memory::format_tag::oihw}, cpu(), plain);
    memory to(layout, cpu(), packed);
    dnnl::stream stream(cpu());
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
}

// y = x * weights + bias, and where `sum` is set plus `residual`, which is not read otherwise.
template <class Data>
void convolve(Data& data, float* x, float* packed, float* bias, const float* residual, float* y) {
    auto& made = convolution(data);
    auto& about = made.description;
    if (data["sum"]) std::memcpy(y, residual, about.dst_desc().get_size());
    dnnl::stream stream(cpu());
    made.run.execute(stream, {{DNNL_ARG_SRC, memory(about.src_desc(), cpu(), x)},
                              {DNNL_ARG_WEIGHTS, memory(about.weights_desc(), cpu(), packed)},
                              {DNNL_ARG_BIAS, memory(about.bias_desc(), cpu(), bias)},
                              {DNNL_ARG_DST, memory(about.dst_desc(), cpu(), y)}});
    stream.wait();
}

}  // namespace iidm
