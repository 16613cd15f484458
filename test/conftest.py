"""What tests share: the repository on the path, golden numbers, the `--slow` option."""
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "test" / "golden"
sys.path.insert(0, str(ROOT))


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes or many GB too")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes minutes or many GB; run with --slow")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes or many GB: run with --slow"))


def golden(name):
    """The arrays of one golden file, as a dict."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def golden_json(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def golden_weights(shapes, seed):
    """The seeded weights that the golden numbers were computed with: one stream of normals a name."""
    weights = {}
    for name, shape in shapes.items():
        n = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)
        if len(shape) >= 2:
            n /= np.sqrt(np.prod(shape[2:] if ".mlp_shared." in name else shape[1:]))
        else:
            n = 1 + 0.1 * n if name.endswith(".weight") else 0.1 * n
        weights[name] = n.astype(np.float32)
    return weights


def one_hot(labels, num_classes=29):
    """N x H x W -> N x classes x H x W float32."""
    return np.moveaxis(np.eye(num_classes, dtype=np.float32)[labels], -1, 1).copy()
