"""Jittor's compiler threads, kept from changing its graph at the same time."""
from __future__ import annotations

from pathlib import Path
from typing import Any

HEADER = Path(__file__).with_suffix(".h").read_text()


def install(jt: Any) -> None:
    """Make Jittor's tuner handle one operator at a time, even if many are compiled in parallel. jt: Jittor.

    Without this, two threads worked on the same graph 33 to 48 times while 108 convolutions were compiled.
    In rare cases an operator then lost its input ("Check failed: member.size() <= var_num") or the process
    crashed with a segmentation fault.
    """
    # use_parallel_op_compiler=0: this operator must not start Jittor's threads. A forked child would wait for
    # them, and it has none.
    with jt.flag_scope(use_cuda=0, use_parallel_op_compiler=0):
        jt.code([1], "float32", [], cpu_header=HEADER,
                cpu_src="jittor::do_compile_hook = iidm::compile; out0_p[0] = 1;").sync()
