// A convolution for training: forwards, and its gradients. Weights and their gradients are plain fp32.
#include <unordered_map>

namespace iidm {

// Memory that lasts from call to call, for weights in oneDNN's layout.
inline memory scratch(const memory::desc& layout) {
    static std::vector<char> room;
    if (room.size() < layout.get_size() + 64) room.resize(layout.get_size() + 64);
    auto aligned = (reinterpret_cast<uintptr_t>(room.data()) + 63) / 64 * 64;
    return memory(layout, cpu(), reinterpret_cast<void*>(aligned));
}

// A primitive with the reorder of its weights, made once for each geometry.
template <class Primitive>
struct Pass {
    typename Primitive::primitive_desc description;
    Primitive run;
    memory::desc weights;
    dnnl::reorder reorder;
};

template <class Primitive, class Describe, class Layout>
const Pass<Primitive>& made(const Geometry& g, bool outwards, Describe describe, Layout layout) {
    static std::map<std::vector<int64_t>, Pass<Primitive>> passes;
    auto found = passes.find(g.key());
    if (found != passes.end()) return found->second;
    auto description = by_algorithm(g.winograd, describe);
    memory::desc weights = layout(description);
    auto from = outwards ? weights : g.plain(), to = outwards ? g.plain() : weights;
    dnnl::reorder reorder(dnnl::reorder::primitive_desc(cpu(), from, cpu(), to));
    return passes.emplace(g.key(), Pass<Primitive>{description, Primitive(description), weights, reorder})
        .first->second;
}

inline dnnl::convolution_forward::primitive_desc hint(Geometry g, dnnl::algorithm algorithm) {
    g.relu = g.sum = false;
    return describe(g, dnnl::prop_kind::forward_training, algorithm);
}

template <class Primitive>
memory packed(const Pass<Primitive>& pass, const Geometry& g, float* weights) {
    memory from(g.plain(), cpu(), weights);
    if (pass.weights == g.plain()) return from;
    memory to = scratch(pass.weights);
    run(pass.reorder, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
    return to;
}

template <class Data>
void forward(Data& data, void* x, float* weights, float* bias, void* y) {
    using Primitive = dnnl::convolution_forward;
    Geometry g(data);
    auto& pass = made<Primitive>(g, false, [&](dnnl::algorithm algorithm) {
        return describe(g, dnnl::prop_kind::forward_training, algorithm);
    }, [](const Primitive::primitive_desc& d) { return d.weights_desc(); });
    run(pass.run, {{DNNL_ARG_SRC, memory(g.source(), cpu(), x)}, {DNNL_ARG_WEIGHTS, packed(pass, g, weights)},
                   {DNNL_ARG_BIAS, memory(g.bias(), cpu(), bias)},
                   {DNNL_ARG_DST, memory(g.result(), cpu(), y)}});
}

template <class Data>
void backward_data(Data& data, float* weights, void* dy, void* dx) {
    using Primitive = dnnl::convolution_backward_data;
    Geometry g(data);
    auto& pass = made<Primitive>(g, false, [&](dnnl::algorithm algorithm) {
        return Primitive::primitive_desc({algorithm, g.source(), g.any(), g.result(), g.strides(), g.before(),
                                          g.after()}, cpu(), hint(g, algorithm));
    }, [](const Primitive::primitive_desc& d) { return d.weights_desc(); });
    run(pass.run, {{DNNL_ARG_DIFF_DST, memory(g.result(), cpu(), dy)},
                   {DNNL_ARG_WEIGHTS, packed(pass, g, weights)},
                   {DNNL_ARG_DIFF_SRC, memory(g.source(), cpu(), dx)}});
}

template <class Data>
void backward_weights(Data& data, void* x, void* dy, float* dw, float* db) {
    using Primitive = dnnl::convolution_backward_weights;
    Geometry g(data);
    auto& pass = made<Primitive>(g, true, [&](dnnl::algorithm algorithm) {
        memory::desc any(g.shape(), memory::data_type::f32, tag::any);
        return Primitive::primitive_desc({algorithm, g.source(), any, g.bias(), g.result(), g.strides(),
                                          g.before(), g.after()}, cpu(), hint(g, algorithm));
    }, [](const Primitive::primitive_desc& d) { return d.diff_weights_desc(); });
    memory plain(g.plain(), cpu(), dw);
    bool direct = pass.weights == g.plain();
    memory found = direct ? plain : scratch(pass.weights);
    run(pass.run, {{DNNL_ARG_SRC, memory(g.source(), cpu(), x)},
                   {DNNL_ARG_DIFF_DST, memory(g.result(), cpu(), dy)}, {DNNL_ARG_DIFF_WEIGHTS, found},
                   {DNNL_ARG_DIFF_BIAS, memory(g.bias(), cpu(), db)}});
    if (!direct) run(pass.reorder, {{DNNL_ARG_FROM, found}, {DNNL_ARG_TO, plain}});
}

// Between plain fp32 activations, N x C x H x W, and those in blocks; what fills a block up is 0.
template <class Data>
void rearrange(Data& data, void* from, void* to) {
    Geometry g(data);
    memory::desc plain({g.batch, g.in, g.height, g.width}, memory::data_type::f32, tag::nchw);
    if (data["inwards"])
        reorder(memory(plain, cpu(), from), memory(g.source(), cpu(), to));
    else
        reorder(memory(g.source(), cpu(), from), memory(plain, cpu(), to));
}

}  // namespace iidm
