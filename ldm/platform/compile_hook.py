"""Jittor's compiler threads, kept from changing its graph at the same time."""
from pathlib import Path

HEADER = Path(__file__).with_suffix(".h").read_text()


def install(jt):
    """Have Jittor's tuner work at one operator at a time, however many are compiled at once.

    Without it two threads were at the same graph 33 to 48 times in a start of 108 convolutions. What that can
    do was seen, rarely, and fits: an operator without its input ("Check failed: member.size() <= var_num"), a
    segmentation fault.
    """
    # Without the threads this very operator would start: a forked child would wait for them, and has none.
    with jt.flag_scope(use_cuda=0, use_parallel_op_compiler=0):
        jt.code([1], "float32", [], cpu_header=HEADER,
                cpu_src="jittor::do_compile_hook = iidm::compile; out0_p[0] = 1;").sync()
