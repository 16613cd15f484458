"""The errors of the ways of `pipeline`, compared with the exact result: PyTorch's in float64."""
from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ldm.backend import jt
from ldm.benchmark.clock import machine
from ldm.benchmark.kernels import Torch
from ldm.benchmark.pipeline import GUIDANCE, TIMESTEP, inputs, random_weights, ways_of
from ldm.diffusion.guidance import guide
from ldm.networks import UNet
from ldm.networks.onednn import for_inference


def measure(config: dict, torch_python: str, seed: int = 0) -> dict[str, Any]:
    """The report: for each way the error of both passes of a step, and of the guided step.

    Weights are random. The two networks are never in memory at the same time; they use the disk (2 GB at full
    size).
    """
    torch = Torch(torch_python)
    try:
        with tempfile.TemporaryDirectory() as folder:
            results = passes(config, Path(folder), seed)
            jt.gc()
            files = {name: str(Path(folder, f"{name}.npz")) for name in ("weights", "inputs", "output")}
            torch.ask(do="exact", config=config["unet"], **files)
            with np.load(files["output"]) as made:
                exact = made["out"][:, :3]
    finally:
        torch.close()
    rows = [{"way": name, **errors(result, exact)} for name, result in results.items()]
    return {"machine": {**machine(), "torch": torch.version},
            "tables": [{"title": "Errors of one guided step, batch 1", "rows": rows}]}


def passes(config: dict, folder: Path, seed: int) -> dict[str, np.ndarray]:
    """Write the weights and the inputs; returns {way: both passes, 2 x 3 x h x w}."""
    jt.set_global_seed(seed)
    with jt.no_grad():
        z, one_hot, _ = inputs(config, seed)
        unet = random_weights(UNet(**config["unet"]))
        unet.eval()
        np.savez(folder / "weights.npz", **{name: p.numpy() for name, p in unet.state_dict().items()})
        maps = np.concatenate([one_hot.numpy(), np.zeros(one_hot.shape, np.float32)])
        np.savez(folder / "inputs.npz", x=z.numpy().repeat(2, axis=0), t=np.repeat(TIMESTEP, 2),
                 one_hot=maps)
        height, width = z.shape[2:]
        direct, fast = (for_inference(unet, height, width, winograd=winograd) for winograd in (False, True))
        results = {}
        for name, way in ways_of(unet, direct, fast, config["unet"], one_hot).items():
            way.keep()
            results[name] = np.concatenate([out.numpy() for out in way.passes(z)])
        return results


def errors(passes: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Errors relative to the exact results: largest and root mean square of the passes, largest of the
    step."""
    step, exact_step = (guide(both[0], both[1], GUIDANCE)
                        for both in (passes.astype(np.float64), exact.astype(np.float64)))
    difference = passes - exact
    return {"passes": np.abs(difference).max() / np.abs(exact).max(),
            "passes, rms": np.sqrt((difference ** 2).mean() / (exact ** 2).mean()),
            "the step": np.abs(step - exact_step).max() / np.abs(exact_step).max()}
