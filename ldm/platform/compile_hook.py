"""Jittor's compiler threads: they change its graph one at a time, and errors hold what the compiler said."""
from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any, Iterator

HEADER = Path(__file__).with_suffix(".h").read_text()


@contextlib.contextmanager
def _errors_kept() -> Iterator[None]:
    """Keep what this process prints on standard error for the RuntimeError that ends the block."""
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        except RuntimeError as e:
            file.seek(0)
            raise RuntimeError(f"{e}\n{file.read(1 << 16).decode(errors='replace')}") from None
        finally:
            os.dup2(before, 2)
            os.close(before)


def install(jt: Any) -> None:
    """Make Jittor's tuner handle one operator at a time, even if many are compiled in parallel, and put what
    a compiler says before it fails into the error instead of on the terminal. jt: Jittor.

    Without this, two threads worked on the same graph 33 to 48 times while 108 convolutions were compiled.
    In rare cases an operator then lost its input ("Check failed: member.size() <= var_num") or the process
    crashed with a segmentation fault.
    """
    # use_parallel_op_compiler=0: this operator must not start Jittor's threads. A forked child would wait for
    # them, and it has none.
    with _errors_kept(), jt.flag_scope(use_cuda=0, use_parallel_op_compiler=0):
        jt.code([1], "float32", [], cpu_header=HEADER,
                cpu_src="iidm::install(); out0_p[0] = 1;").sync()
