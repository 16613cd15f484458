"""The only import of Jittor: `from ldm.backend import jt, nn` prepares the platform first."""
from typing import Any

from ldm.platform import compile_hook, runtime

Var = Any               # a jittor.Var; Jittor has no type annotations
Module = Any            # a jittor.nn.Module
jt: Any = runtime.load()
compile_hook.install(jt)
nn = jt.nn
