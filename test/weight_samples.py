"""What the tests of weights share.

`golden/weights_lightning.ckpt` and `golden/weights_legacy.pt` were written by torch 2.13.0 (`torch.save`, and
with `_use_new_zipfile_serialization=False`) from one state dict with every dtype, transposed, strided,
offset, shared, expanded and empty tensors; the first is laid out as Lightning's, with Adam's state.
`golden/weights_jittor.pkl` was written by jittor 1.3.11 (`jt.save`).
"""
import numpy as np
from conftest import GOLDEN

SAMPLES = [GOLDEN / name for name in ("weights_lightning.ckpt", "weights_legacy.pt", "weights_jittor.pkl")]


def assert_same(state, expected):
    assert list(state) == list(expected)
    for name, array in expected.items():
        assert state[name].dtype == array.dtype, name
        np.testing.assert_array_equal(state[name], array, name, strict=True)
        assert state[name].flags.c_contiguous


class Network:
    """What `load` wants of a network: named values with shapes that a dict changes."""
    def __init__(self, shapes):
        self.values = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}

    def state_dict(self):
        return dict(self.values)

    def load_state_dict(self, state):
        for name, array in state.items():
            self.values[name][...] = array
