"""What the networks do, each piece small and once: every kernel of theirs is met."""
import contextlib
import ctypes
import os

import device
import numpy as np
import operators
import test_device_networks
import test_device_operators
from conftest import golden, golden_weights, one_hot
from device import PRECISIONS
from test_networks import small_autoencoder, small_unet

from ldm.backend import jt, nn
from ldm.diffusion import Schedule
from ldm.diffusion.losses import training_loss
from ldm.evaluation.networks import NIMA, FIDInception, SegFormer
from ldm.evaluation.networks.nima import LAYOUTS
from ldm.inference.batch import Batch
from ldm.inference.job import BatchSplitter
from ldm.inference.refinement import Progress, Refinement
from ldm.inference.rounds import ROUND, Settings
from ldm.networks import UNet, blocks, checkpointing, precision
from ldm.platform.cuda import memory as device_memory
from ldm.training import step
from ldm.training.loss_scale import LossScale

LINEAR = Schedule.linear(1000)
OPTIONS = {"batch_size": 2, "micro_batch": 1}


class Task:
    """As the trainer wants it: the golden batch, or images, and a loss."""

    def __init__(self, batch, loss):
        self.batch, self.loss = (lambda step: batch), loss


def steps(task, network, count=1, dynamic=False):
    """Losses of so many optimiser steps, with a loss scale or none. Not by `step.optimize`, which
    checks numbers: the stand-in's are what was in the memory."""
    network.train()
    optimizer = jt.optim.AdamW(list(network.state_dict().values()), 1e-4, weight_decay=0.01)
    scale, losses = LossScale(dynamic), []
    for i in range(count):
        sums, terms = step.summed(scale.scaled(task.loss), task.batch(i), optimizer.param_groups[0]["params"],
                                  OPTIONS)
        step.apply(optimizer, scale.unscaled(sums), i)
        losses.append(terms["loss"] / scale.value)
    return losses


# ---- diffusion ---------------------------------------------------------------------------------------------

def wide_unet(kind):
    """A U-Net whose activations outweigh its parameters, with gradient checkpointing of this kind."""
    network = UNet(channels=64, num_res_blocks=2, channel_mult=(1, 2), attention_downsampling=(2,))
    network.load_state_dict(golden_weights({k: tuple(p.shape) for k, p in network.state_dict().items()}, 5))
    checkpointing.apply(network, kind)
    return network


def training_steps(network, side=8, count=3, dynamic=False):
    """Training on noise of side x side. -> the losses."""
    rng = np.random.default_rng(0)
    z0, eps = rng.standard_normal((2, 2, 3, side, side)).astype(np.float32)
    t, labels = np.array([10, 700]), rng.integers(0, 29, (2, side, side))
    batch = {"z0": z0, "eps": eps, "t": t, "z_t": LINEAR.add_noise(z0, t, eps).astype(np.float32),
             "one_hot": one_hot(labels)}

    def loss(b):
        out = network(jt.array(b["z_t"]), b["t"], jt.array(b["one_hot"]))
        terms = training_loss(out, b["z0"], b["z_t"], b["eps"], b["t"], LINEAR, "mse+vb")
        return terms["loss"].mean(), {"mse": terms["mse"].mean()}

    return steps(Task(batch, loss), network, count, dynamic)


def unet():
    test_device_networks.guided_loop()


def unet_training():
    training_steps(small_unet(), count=1)


def checkpointed_training():
    network = small_unet()
    checkpointing.apply(network, "blocks")
    training_steps(network, count=1)


def half_precision():
    """Sampling, the autoencoder and training in fp16 and bf16."""
    for kind in ("fp16", "bf16"):
        test_device_networks.guided_loop(kind)
        autoencoder(kind)
        network = small_unet()
        precision.apply(network, kind)
        training_steps(network, count=1, dynamic=kind == "fp16")


def running_out_of_memory():
    """A pipeline with the memory that one image takes is given eight; only the stand-in's has an end."""
    settings = Settings("ddim", 0.0, 0, [{**ROUND, "strength": 0.5, "steps": 2, "guidance": 3.5}])
    refinement, sizes = Refinement(small_unet(), small_autoencoder(), LINEAR, settings, (256, 192)), []
    rng = np.random.default_rng(3)

    def make(batch, on_step=lambda n: None):
        sizes.append(len(batch))
        masks = rng.integers(0, 29, (len(batch), 48, 64)).astype(np.uint8)
        pictures = rng.integers(0, 256, (len(batch), 192, 256, 3)).astype(np.uint8)
        return list(refinement.pictures(Batch(masks, pictures, batch, [0] * len(batch)))), []

    make("a")
    os.environ["STAND_IN_MEMORY"] = str(jt.get_mem_info().total_cuda_used + 2 ** 20)
    made, _ = BatchSplitter(make)(list("abcdefgh"), on_step=lambda n: None)
    del os.environ["STAND_IN_MEMORY"]
    assert len(made) == 8 and sizes[:2] == [1, 8] and sizes[-1] < 8, sizes
    print("images at a time:", *sizes)


class Hungry(Refinement):
    """Takes 16 MB of the device for each image, and returns the names as pictures."""

    settings = Settings("ddim", 0.0, 0, [{**ROUND, "strength": 0.5, "steps": 2, "from": "noise"}])
    size, latent_size = (8, 8), (2, 2)

    def __init__(self):
        self.sizes = []

    def run(self, batch):
        self.sizes.append(len(batch.names))
        jt.sync([jt.empty((2 ** 24,), "uint8") for _ in batch.names])
        yield Progress(1, 1, 1, 1, lambda: None, batch.names)


def unseen(names):
    return Batch(np.zeros((len(names), 2, 2), np.uint8), None, names, [0] * len(names))


def halving(expected):
    """Let eight images of 16 MB be made where 96 MB are left, and see in which words that ends."""
    said, ended, pipeline, names = [], device_memory.ended, Hungry(), list("abcdefgh")
    device_memory.ended = lambda error: said.append(str(error)) or ended(error)
    try:
        halved = BatchSplitter(lambda batch, on_step: (pipeline.pictures(unseen(batch)), []))
        made, _ = halved(names, on_step=lambda n: None)
    finally:
        device_memory.ended = ended
    assert made == names and pipeline.sizes == [8, 4, 4], pipeline.sizes
    assert len(said) == 1 and expected in said[0], said


def memory_that_ends():
    """Jittor's pools hold over 95 % of the device when it ends. On a device or, in a process of its own, over
    the stand-in."""
    jt.gc()
    others = []
    while (left := device_memory.info()[0] - 6 * 2 ** 24) > 2 ** 22:
        others.append(jt.empty((min(left, 2 ** 30),), "uint8").sync())
    halving(device_memory.TEXTS[1])
    del others
    jt.gc()


def memory_that_others_have():
    """The memory ends while Jittor's pools hold little of it. Over the stand-in."""
    jt.gc()
    free, total = device_memory.info()
    os.environ["STAND_IN_MEMORY"] = str(total - free + 6 * 2 ** 24)
    halving(device_memory.TEXTS[0])
    os.environ["STAND_IN_MEMORY"] = str(total)


def failing_launches():
    """A kernel of ours that cannot be launched is an error, and not what was in the memory before."""
    x, one = jt.ones((1, 32, 8, 8)).sync(), jt.ones((1, 32, 1, 1)).sync()
    os.environ["STAND_IN_LAUNCHES"] = "fail"
    try:
        with jt.no_grad():
            blocks.modulated(x, 8, 1e-5, one, one).sync()
    except RuntimeError as error:
        assert "cudaErrorInvalidConfiguration" in str(error), error
    else:
        raise AssertionError("a failed launch was not noticed")
    finally:
        del os.environ["STAND_IN_LAUNCHES"]


def many_shapes():
    """More shapes of convolutions than Jittor's cache of algorithms has place for: each is searched."""
    before, w = counts(), jt.ones((4, 4, 3, 3))
    for width in range(8, 158):
        nn.conv2d(jt.ones((1, 4, 8, width)), w).sync()
    searches, advice, workspace = (now - then for now, then in zip(counts(), before))
    assert searches == 150 and advice == 0 and counts()[2] <= 2 ** 30, (searches, advice, workspace)


def precisions():
    """In which types a convolution and its gradients are summed and multiplied, and that an algorithm found
    in one precision is not taken for another."""
    single, default, conversion, fma = 0, 0, 2, 3            # of cudnnDataType_t and cudnnMathType_t
    half = [[single, conversion], [single, default], [single, default]]      # the convolution, its gradients
    wanted = {"fp32": 3 * [[single, fma]], "tf32": 3 * [[single, default]], "fp16": half, "bf16": half}
    before = counts()[0]
    for kind, expected in wanted.items():
        with device.computing("cuda", kind):
            x, w = (jt.ones(shape).cast(PRECISIONS[kind].dtype) for shape in ((3, 4, 9, 11), (4, 4, 3, 3)))
            y = nn.conv2d(x, w).sync()
            found = [counts("sums", "math")]
            for variable in (x, w):
                jt.grad(y, variable).sync()
                found.append(counts("sums", "math"))
        assert found == expected, (kind, found)
    assert counts()[0] - before == 3 * len(wanted), counts()[0] - before


def counts(*names):
    """Of the stand-in: searches for an algorithm, questions for advice, bytes of the largest workspace; or
    what else it has noted."""
    for name in ("libcudnn.so.9", "libcudnn.so.8"):         # each library of the stand-in counts for itself
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(name)
            break
    names = names or ("searches", "advice", "workspace")
    functions = [getattr(library, f"stand_in_{name}") for name in names]
    for function in functions:
        function.restype = ctypes.c_size_t
    return [function() for function in functions]


# ---- the autoencoder ---------------------------------------------------------------------------------------

def autoencoder(kind="fp32"):
    g, network = golden("vqgan_small"), test_device_networks.converted(small_autoencoder(), kind)
    with jt.no_grad():
        network.decode(network.encode(jt.array(g["x"]))).sync()


def autoencoder_training():
    network = small_autoencoder()

    def loss(x):
        x = jt.array(x)
        y, codebook, _, _ = network(x)
        d = x - y
        edges = (d[:, :, 1:] - d[:, :, :-1]).abs().mean() + (d[:, :, :, 1:] - d[:, :, :, :-1]).abs().mean()
        return d.abs().mean() + edges + codebook, {}

    images = np.random.default_rng(1).standard_normal((2, 3, 32, 32)).astype(np.float32)
    steps(Task(images, loss), network)


# ---- the rest ----------------------------------------------------------------------------------------------

def judges():
    """The evaluation's networks, as they look at two pictures."""
    pictures = np.random.default_rng(2).integers(0, 256, (2, 96, 128, 3)).astype(np.uint8)
    segmenter = SegFormer(hidden=(8, 16, 24, 32), depths=(1, 1, 2, 1), decoder=24)
    for network in (FIDInception(), segmenter, *(NIMA(layout) for layout in LAYOUTS)):
        network.eval()
        with jt.no_grad():
            network(pictures).sync()


def single_operators():
    """Each operator of the tests in each of its precisions."""
    for operator in operators.OPERATORS.values():
        for dtype in {PRECISIONS[name].dtype for name in operator.precisions}:
            operators.run(operator, operator.inputs(), dtype)


def custom_kernel():
    test_device_operators.squares(jt.ones(10)).sync()
