"""The one door to Jittor: `from ldm.backend import jt, nn`, so that the runtime is prepared first."""
from ldm import runtime

jt = runtime.load()
nn = jt.nn
