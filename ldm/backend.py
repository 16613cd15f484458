"""The only import of Jittor: `from ldm.backend import jt, nn` prepares the platform first."""
from typing import Any

from ldm.platform import compile_hook, runtime

Var = Any               # a jittor.Var; Jittor has no type annotations
Module = Any            # a jittor.nn.Module
jt: Any = runtime.load()
compile_hook.install(jt)
nn = jt.nn


def tanh(x: Var) -> Var:
    """The hyperbolic tangent with a finite gradient. Jittor's gradient divides by cosh(x)^2, which overflows
    and gives NaN from about 45 on. In fp32 tanh is 1 from 15 on, so the clamp changes no value."""
    return jt.tanh(jt.clamp(x, -15.0, 15.0))
