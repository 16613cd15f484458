"""What tests share: the repository on the path, golden numbers, the `--slow` option."""
import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from golden.recipe import weights as golden_weights  # noqa: F401  (for the tests)
from imports import needs_jittor, starts_servers

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "test" / "golden"
# Files that take longest. They begin first, so that none of them is left when the other workers have ended.
LONGEST = ("test_parallel", "test_fuzz", "test_workers", "test_training", "test_autoencoder_training",
           "test_evaluation_networks", "test_baselines_training", "test_paint_page", "test_paint_page_jobs",
           "test_infer_tool", "test_end_to_end", "test_onednn", "test_networks", "test_shell", "test_trainer")
HAD_JITTOR = pytest.StashKey[bool]()        # whether a test began with Jittor loaded
sys.path.insert(0, str(ROOT))


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes or many GB too")


def pytest_configure(config):
    config.option.loadscopereorder = False      # pytest-xdist's order is by the number of tests in a file
    # A shell's background jobs ignore Ctrl-C, and so would all that the tests start.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "slow: takes minutes or many GB; run with --slow")
    config.addinivalue_line("markers", "jittor: needs Jittor (found by imports.py); -m 'not jittor' omits it")
    config.addinivalue_line("markers", "process: starts servers, browsers, compilers or many processes")
    config.addinivalue_line("markers", "quick: neither of these two; half a minute for all of them")


def pytest_ignore_collect(collection_path, config):
    """With -m quick or 'not jittor' a file that needs Jittor is not imported: there may be no Jittor."""
    expression = config.option.markexpr
    if ("not jittor" in expression or expression == "quick") and collection_path.match("test_*.py"):
        return needs_jittor(collection_path) or None


def pytest_itemcollected(item):
    if needs_jittor(item.path):
        item.add_marker("jittor")
    if starts_servers(item.path):
        item.add_marker("process")
    if not item.get_closest_marker("jittor") and not item.get_closest_marker("process"):
        item.add_marker("quick")


def pytest_collection_modifyitems(config, items):
    order = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes or many GB: run with --slow"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    item.stash[HAD_JITTOR] = "jittor_core" in sys.modules


def pytest_runtest_teardown(item):
    if "jittor_core" in sys.modules and not item.stash[HAD_JITTOR] and "jittor" not in item.keywords:
        pytest.fail("this test loads Jittor: it needs the marker `jittor`, see imports.py")


def golden(name):
    """The arrays of one golden file, as a dict."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def golden_json(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def one_hot(labels, num_classes=29):
    """N x H x W -> N x classes x H x W float32."""
    return np.moveaxis(np.eye(num_classes, dtype=np.float32)[labels], -1, 1).copy()
