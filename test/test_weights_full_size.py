"""The entry's U-Net and the CompVis VQ-GAN f4 at full size, random, in such files as their authors wrote."""
import contextlib
import hashlib
import io
import json
import pickle
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
from conftest import ROOT, golden_json
from weight_samples import SAMPLES, Network, assert_same

from ldm.weights import convert, load, read_state


@contextlib.contextmanager
def stand_ins():
    """Modules that lend pickles the names which Jittor and torch give, without either."""
    def rebuild(*arguments):
        return arguments
    fakes = {"jittor": types.ModuleType("jittor"), "torch": types.ModuleType("torch"),
             "torch._utils": types.ModuleType("torch._utils")}
    fakes["jittor"].jittor_core = types.SimpleNamespace(Var=rebuild)
    fakes["torch"].FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    fakes["torch._utils"]._rebuild_tensor_v2 = lambda *arguments: arguments
    rebuild.__module__, rebuild.__qualname__ = "jittor", "jittor_core.Var"
    tensor = fakes["torch._utils"]._rebuild_tensor_v2
    tensor.__module__, tensor.__name__, tensor.__qualname__ = "torch._utils", *["_rebuild_tensor_v2"] * 2
    before = {name: sys.modules.get(name) for name in fakes}
    sys.modules.update(fakes)
    try:
        yield rebuild, tensor, fakes["torch"].FloatStorage
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def random_array(name, shape):
    return np.random.default_rng([len(name), *name.encode()]).standard_normal(shape, np.float32)


def write_jittor(path, shapes):
    """A file as jt.save writes it of Vars, one at a time in memory."""
    class Var:
        def __init__(self, name, shape):
            self.name, self.shape = name, shape

        def __reduce__(self):
            return rebuild, (random_array(self.name, self.shape),)

    class Hashed:
        def __init__(self, file):
            self.file, self.sha1 = file, hashlib.sha1()

        def write(self, data):
            self.sha1.update(data)
            return self.file.write(data)

    with stand_ins() as (rebuild, _, _), open(path, "wb") as file:
        hashed = Hashed(file)
        pickler = pickle.Pickler(hashed, 4)
        pickler.fast = True                                 # keeps no object that was written
        pickler.dump({name: Var(name, shape) for name, shape in shapes.items()})
        file.write(hashed.sha1.digest() + b"HCAJSLHD")


def write_torch_zip(path, shapes):
    """A Lightning checkpoint as torch.save writes it."""
    class Tensor:
        def __init__(self, key, shape):
            self.key, self.shape = key, shape

        def __reduce__(self):
            strides = tuple(int(np.prod(self.shape[i + 1:])) for i in range(len(self.shape)))
            return rebuild, (Storage(self.key, self.shape), 0, tuple(self.shape), strides, False, {})

    class Storage:
        def __init__(self, key, shape):
            self.identity = "storage", kind, key, "cpu", int(np.prod(shape))

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.identity if isinstance(value, Storage) else None

    with stand_ins() as (_, rebuild, kind), zipfile.ZipFile(path, "w") as archive:
        stream = io.BytesIO()
        state = {name: Tensor(str(i), shape) for i, (name, shape) in enumerate(shapes.items())}
        Pickler(stream, 2).dump({"epoch": 1, "state_dict": state, "optimizer_states": []})
        archive.writestr("archive/data.pkl", stream.getvalue())
        for i, (name, shape) in enumerate(shapes.items()):
            archive.writestr(f"archive/data/{i}", random_array(name, shape).tobytes())


def test_builders_write_what_the_real_programs_write(tmp_path):
    shapes = {"conv.weight": (3, 2, 1, 1)}
    write_jittor(tmp_path / "j", shapes)
    write_torch_zip(tmp_path / "t", shapes)
    for path in (SAMPLES[2], tmp_path / "j"):
        memo_free = path.read_bytes().replace(b"\x94", b"")
        assert b"\x8c\x06jittor\x8c\x0fjittor_core.Var\x93" in memo_free
    for path in (SAMPLES[0], tmp_path / "t"):
        with zipfile.ZipFile(path) as archive:
            data = archive.read([name for name in archive.namelist() if name.endswith("/data.pkl")][0])
        assert b"ctorch._utils\n_rebuild_tensor_v2\n" in data and b"ctorch\nFloatStorage\n" in data
    for name in "jt":
        assert_same(read_state(tmp_path / name)[0], {n: random_array(n, s) for n, s in shapes.items()})


READ = """
import json, re, sys, time
sys.path.insert(0, sys.argv[1])
from ldm.weights import read_state

def peak_memory():                    # of this program: getrusage would count what the parent had before
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024

begun, before = time.time(), peak_memory()
state, config = read_state(sys.argv[2])
peak = peak_memory() - before
print(json.dumps({"seconds": time.time() - begun, "peak": peak,
                  "shapes": {name: array.shape for name, array in state.items()},
                  "lasts": {name: float(array.flat[-1]) for name, array in state.items()}}))
"""


def read_elsewhere(path):
    """What a fresh process reads of `path`: shapes, last numbers, seconds, and the memory it took for
    that."""
    command = [sys.executable, "-c", READ, ROOT, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def assert_full(path, shapes, limit):
    seen = read_elsewhere(path)
    print(f"{path.name}: {path.stat().st_size / 1e6:.0f} MB in {seen['seconds']:.1f} s, "
          f"{seen['peak'] / path.stat().st_size:.2f} times its size in memory")
    assert seen["shapes"] == shapes
    for name in list(shapes)[::50] + list(shapes)[-1:]:
        assert seen["lasts"][name] == random_array(name, shapes[name]).flat[-1]
    assert 0.9 < seen["peak"] / path.stat().st_size < limit


def test_full_size_autoencoder_from_a_torch_checkpoint(tmp_path):
    shapes = golden_json("full_vqgan_shapes")
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 55_322_782
    extra = {f"loss.discriminator.main.{i}.weight": shape for i, shape in ((0, [64, 3, 4, 4]), (3, [128]))}
    write_torch_zip(tmp_path / "vq-f4.ckpt", shapes | extra)
    assert_full(tmp_path / "vq-f4.ckpt", shapes | extra, 1.3)
    network = Network(shapes)
    assert load(tmp_path / "vq-f4.ckpt", network) is None
    np.testing.assert_array_equal(network.values["quantize.embedding.weight"],
                                  random_array("quantize.embedding.weight", (8192, 3)))


@pytest.mark.slow
def test_full_size_unet_from_a_jittor_file(tmp_path):
    shapes = golden_json("full_unet_shapes")
    assert len(shapes) == 660 and sum(int(np.prod(shape)) for shape in shapes.values()) == 501_540_358
    write_jittor(tmp_path / "ema.pkl", shapes)
    assert_full(tmp_path / "ema.pkl", shapes, 1.3)
    state, _ = convert(tmp_path / "ema.pkl", tmp_path / "unet.safetensors", shapes)
    del state
    assert_full(tmp_path / "unet.safetensors", shapes, 1.3)
