// Takes the place of Jittor 1.3.11's do_compile_inner (op_compiler.cc), for two reasons.
// Its compiler threads run it at the same time though it is not fit for that: to see what a convolution can
// be replaced by, the tuner makes nodes on the graph's own variables, whose lists of users and counts have no
// lock. Only that is done one at a time here; reading and writing sources, and the C++ compiler, still run
// side by side.
// And what a compiler says before it fails goes to the terminal there, with a traceback of the script that
// starts it. Here it becomes a part of the error, of which the program makes one line.
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <stdexcept>
#include <streambuf>
#include <string>
#include "fused_op.h"
#include "op_compiler.h"
#include "ops/op_register.h"
#include "opt/pass_manager.h"
#include "opt/tuner_manager.h"

namespace jittor {
extern jit_op_entry_t (*do_compile_hook)(Op*);
}

namespace iidm {

thread_local std::string* kept = nullptr;        // where this thread's std::cerr goes while it compiles

class Cerr : public std::streambuf {
    std::streambuf* terminal;

protected:
    int overflow(int c) override {
        if (c == traits_type::eof()) return 0;
        if (!kept) return terminal->sputc(char(c));
        kept->push_back(char(c));
        return c;
    }
    std::streamsize xsputn(const char* text, std::streamsize size) override {
        if (!kept) return terminal->sputn(text, size);
        kept->append(text, size);
        return size;
    }
    int sync() override { return kept ? 0 : terminal->pubsync(); }

public:
    explicit Cerr(std::streambuf* terminal) : terminal(terminal) {}
};

class Kept {
    std::string* before = kept;

public:
    std::string said;
    Kept() { kept = &said; }
    ~Kept() { kept = before; }
};

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
    Kept here;
    try {
        return compiler.compile(op->get_jit_key(jittor::get_jk()), source);
    } catch (const std::exception& e) {
        throw std::runtime_error(e.what() + std::string("\n") + here.said.substr(0, 1 << 16));
    }
}

inline void say_kept() {                         // at a segmentation fault Jittor says so and calls exit()
    std::string* said = kept;
    kept = nullptr;
    if (said) std::cerr << *said << std::flush;
}

inline void install() {
    jittor::do_compile_hook = compile;
    std::atexit(say_kept);
    std::cerr.rdbuf(new Cerr(std::cerr.rdbuf()));            // std::cerr outlives everything here
}

}
