"""The one door to Jittor: `from ldm.backend import jt, nn`, so that the runtime is prepared first."""
from ldm.platform import compile_hook, runtime

jt = runtime.load()
compile_hook.install(jt)
nn = jt.nn
