"""What is changed in Jittor, and what of its own changes is taken back."""
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from ldm.backend import jt, nn
from ldm.platform import runtime


def test_the_hook_is_in_place():
    found = jt.code([1], "float32", [], cpu_src="out0_p[0] = jittor::do_compile_hook != nullptr;",
                    cpu_header="namespace jittor { extern jit_op_entry_t (*do_compile_hook)(Op*); }")
    assert found.item() == 1


def test_convolutions_of_one_variable_compiled_at_once():
    """Each kind is an operator of its own; the tuner replaces each by oneDNN's and must leave x as it is."""
    rng = np.random.default_rng(0)
    x = jt.array(rng.standard_normal((2, 8, 9, 9), dtype=np.float32))
    w = jt.array(rng.standard_normal((8, 8, 3, 3), dtype=np.float32))
    kinds = [(1, 0), (1, 1), (2, 1), (3, 0)]
    loss = sum((nn.conv2d(x, w, stride=s, padding=p) * (s + p)).sum() for s, p in kinds)
    dx, dw = (v.numpy() for v in jt.grad(loss, [x, w]))

    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected_dx, expected_dw = np.zeros_like(padded), np.zeros_like(w.numpy())
    for s, p in kinds:
        last = 9 + p - 2                            # of a kernel's first rows, in `padded`
        for i in range(1 - p, last + 1, s):
            for j in range(1 - p, last + 1, s):
                expected_dx[:, :, i:i + 3, j:j + 3] += (s + p) * w.numpy().sum(axis=0)
                expected_dw += (s + p) * padded[:, :, i:i + 3, j:j + 3].sum(axis=0)
    np.testing.assert_allclose(dx, expected_dx[:, :, 1:-1, 1:-1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dw, expected_dw, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_compiler_says_is_in_the_error_and_not_on_the_terminal(tmp_path, capfd, threads):
    """A compiler that is killed in the middle of an operator. Jittor prints its words, and the traceback of
    the script that starts it."""
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\necho 'g++: fatal error: Killed signal terminated program'\nexit 1\n")
    compiler.chmod(0o755)
    with jt.flag_scope(cc_path=str(compiler), use_parallel_op_compiler=threads):
        with pytest.raises(RuntimeError, match="Run cmd failed(.|\n)*Killed signal terminated") as error:
            jt.code([1], "float32", [], cpu_src=f"out0_p[0] = 1234.{threads};").sync()
    assert capfd.readouterr() == ("", "")
    assert "use_parallel_op_compiler=1" in str(runtime.explain(error.value))
    assert jt.code([1], "float32", [], cpu_src="out0_p[0] = 7;").item() == 7


def test_what_jittor_changes_in_python_is_restored():
    code = ("import ssl, sys\nbefore = ssl._create_default_https_context, sys.getrecursionlimit()\n"
            "from ldm.backend import jt\nimport jittor_utils\n"
            "assert (ssl._create_default_https_context, sys.getrecursionlimit()) == before\n"
            "assert ssl._create_default_https_context().verify_mode == ssl.CERT_REQUIRED")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_operators_are_the_same_for_every_name_of_the_interpreter():
    """Jittor's commands name it, and another command compiles an operator again."""
    names = (Path(sys.executable).with_name(name) for name in ("python", "python3"))
    code = "from ldm.backend import jt; print(jt.flags.python_path)"
    found = [subprocess.run([name, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
             for name in names if name.is_file()]
    assert len(set(found)) == 1 and found[0].strip()
