"""The estimate before a run: counts of the published network, and what makes a run need more or less."""
import pytest

from ldm import config as configs
from ldm.networks import UNet
from ldm.training import estimate


@pytest.fixture(scope="module")
def full():
    network = UNet()
    return sum(p.numel() for p in network.parameters()), estimate.one_pass(network, 96, 128)


def test_counts_of_the_full_network(full):
    parameters, one = full
    assert parameters == 501_540_358
    assert 2 * one.macs == pytest.approx(690e9, rel=0.01)      # known of a guided step's two passes
    assert one.edges < one.activations / 4 and one.largest < one.activations / 4


def test_counts_of_a_small_network_by_hand():
    """One block a level, no level below: convolutions and attention counted on paper."""
    network = UNet(num_classes=3, channels=8, channel_mult=(1,), num_res_blocks=1, attention_downsampling=(),
                   head_channels=8, spade_channels=4, norm_groups=2)
    hw = 4 * 6
    # One 1 x 1 convolution more where a block's channels change: the decoder's, 16 -> 8.
    res = hw * 9 * (8 * 8 + 8 * 8) + 32 * 16
    spade = [2 * hw * 9 * 3 * 4 + hw * 9 * (2 * 4 * c + 2 * 4 * 8) + hw * 9 * (c * 8 + 8 * 8) + 32 * 16
             + (hw * c * 8 if c != 8 else 0) for c in (8, 8, 16, 16)]
    attention = hw * 8 * 24 + hw * 8 * 8 + 2 * 8 * hw ** 2
    ends = hw * 9 * (3 * 8 + 8 * 6) + 8 * 32 + 32 * 32
    assert estimate.one_pass(network, 4, 6).macs == res + sum(spade) + attention + ends


def test_what_needs_more_and_what_less(full):
    parameters, one = full

    def total(processes=1, **options):
        options = {**configs.DEFAULTS["training"], "batch_size": 8, **options}
        return sum(estimate.memory(parameters, one, options, processes).values())

    assert total(checkpointing="blocks") < total() < total(more_ema_rates=[0.5])
    assert total(micro_batch=1) == total(batch_size=1) + 4 * parameters      # the sums so far
    assert total(micro_batch=1) == total(micro_batch=1, batch_size=30)
    assert total(processes=2) == total(batch_size=4) == total(processes=2, micro_batch=5)
    options = {**configs.DEFAULTS["training"], "steps": 1000, "batch_size": 10}
    three_passes = 3 * 10_000 * one.macs
    assert estimate.hours(one, options, three_passes / 3600) == pytest.approx(1)
    assert estimate.disk(10, {**options, "keep": 2, "keep_best": 1}) == 4 * (10 * 4) * 5


def test_the_speed_of_a_fast_device(monkeypatch):
    """On a clock where any pass takes a millisecond the batch ends at its largest, and is repeated."""
    shapes = []

    class Layer:
        def __init__(self, *_, **__):
            pass

        def __call__(self, x):
            shapes.append(x.shape[0])
            return x

    monkeypatch.setattr(estimate.nn, "Conv", Layer)
    monkeypatch.setattr(estimate.precision, "apply", lambda *_: None)
    monkeypatch.setattr(estimate.jt, "random", lambda shape: estimate.jt.zeros((shape[0], 1)))
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: 1e-3 * len(shapes))
    assert estimate.speed() == pytest.approx(256 * 32 * 32 * 256 * 256 * 9 / 1e-3)
    assert max(shapes) == 256 and shapes.count(256) >= 3 * 64


def test_a_long_batch_is_not_repeated(monkeypatch):
    monkeypatch.setattr(estimate, "_shortest", lambda layer, batch, repeats: 0.05 * batch * repeats)
    assert estimate.speed() == pytest.approx(32 * 32 * 256 * 256 * 9 / 0.05)
