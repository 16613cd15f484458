"""Gradients from recomputed blocks against those from kept ones, and what it saves."""
import numpy as np
import pytest
from conftest import golden, golden_weights, one_hot
from test_networks import CONFIG

from ldm.backend import jt
from ldm.diffusion import Schedule
from ldm.diffusion.losses import training_loss
from ldm.networks import UNet, checkpointing, dropout

LINEAR = Schedule.linear(1000)


def small_unet(rate):
    network = UNet(channels=32, num_res_blocks=1, channel_mult=(1, 2, 2), attention_downsampling=(2, 4),
                   head_channels=16, dropout=rate)
    network.load_state_dict(golden_weights(CONFIG["unet_shapes"], CONFIG["unet"]["seed"]))
    return network


def loss_and_gradients(kind, rate=0.0, keys=(5, 6)):
    """Of the golden training step, by a network with so much dropout."""
    g, network = golden("train_step"), small_unet(rate)
    checkpointing.apply(network, kind)
    z_t = LINEAR.add_noise(g["x_start"], g["t"], g["noise"]).astype("float32")
    with dropout.keyed(network, keys):
        out = network(jt.array(z_t), g["t"], jt.array(one_hot(g["labels"])))
        loss = training_loss(out, g["x_start"], z_t, g["noise"], g["t"], LINEAR, "mse+vb")["loss"].mean()
    grads = jt.grad(loss, network.parameters(), False)
    return loss.item(), [g.numpy() for g in grads]


def furthest(a, b):
    """The largest relative distance of two lists of gradients, array by array, of those that are not zero but
    for rounding in both: biases in front of a norm whose groups are of one channel."""
    floor = 1e-6 * max(np.linalg.norm(x) for x in b)
    norms = [(np.linalg.norm(x - y), np.linalg.norm(x), np.linalg.norm(y)) for x, y in zip(a, b)]
    return max(apart / y for apart, x, y in norms if max(x, y) > floor)


@pytest.fixture(scope="module")
def kept():
    return loss_and_gradients("none")


def test_gradients_are_those_without(kept):
    loss, grads = loss_and_gradients("blocks")
    assert loss == pytest.approx(kept[0], rel=1e-6) and furthest(grads, kept[1]) < 1e-5


def test_gradients_with_dropout_too(kept):
    """The recomputed pass must draw the masks of the first: with others nothing would agree."""
    loss, grads = loss_and_gradients("none", rate=0.3)
    again, recomputed = loss_and_gradients("blocks", rate=0.3)
    assert again == pytest.approx(loss, rel=1e-6) and furthest(recomputed, grads) < 1e-5
    assert furthest(grads, kept[1]) > 0.1
    assert furthest(loss_and_gradients("none", rate=0.3, keys=(5, 7))[1], grads) > 0.01
