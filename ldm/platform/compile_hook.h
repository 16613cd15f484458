// Takes the place of Jittor 1.3.11's do_compile_inner (op_compiler.cc), which its compiler threads run at
// the same time though it is not fit for that: to see what a convolution can be replaced by, the tuner
// makes nodes on the graph's own variables, whose lists of users and counts have no lock. Only that is done
// one at a time here; reading and writing sources, and the C++ compiler, still run side by side.
#include <mutex>
#include "fused_op.h"
#include "op_compiler.h"
#include "ops/op_register.h"
#include "opt/pass_manager.h"
#include "opt/tuner_manager.h"

namespace jittor {
extern jit_op_entry_t (*do_compile_hook)(Op*);
}

namespace iidm {

inline std::string tuned(jittor::OpCompiler& compiler) {
    static std::mutex one_at_a_time;
    std::lock_guard<std::mutex> lock(one_at_a_time);
    return jittor::TunerManager(&compiler).tune();          // its nodes go with it, still under the lock
}

inline jittor::jit_op_entry_t compile(jittor::Op* op) {
    jittor::OpCompiler compiler(op);
    for (auto* type : jittor::op_types) type->post_pass(&compiler);
    std::string source = compiler.op ? tuned(compiler) : compiler.src;
    op->compile_optimize(source);
    return compiler.compile(op->get_jit_key(jittor::get_jk()), source);
}

}
