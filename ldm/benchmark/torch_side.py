"""PyTorch's side of a comparison: a script for another Python that answers each line of JSON with another.

    {"do": "hello", "device": "cpu" or "cuda"}              -> {"version": ..., "threads": ...}
    {"do": "operator", "operator": {...}, "calls": n}       -> {"wall": s, "cpu": s}, of one of n runs
    {"do": "build", "config": {...}, "height": h, "width": w}   the U-Net with random weights
    {"do": "pass", "kind": "fp32", "tf32" or "bf16", "channels_last": bool}     -> {"wall": s, "cpu": s}, one
                                                            pass of that
    {"do": "build_training", "config": {...}, "batch": n, "height": h, "width": w}      what is trained
    {"do": "train", "kind": "fp32" or "bf16", "channels_last": bool}    -> {"wall": s, "cpu": s}, a step
    {"do": "exact", "config": {...}, "weights": npz, "inputs": npz, "output": npz}     one by one, in float64:
                                                            x, t, one_hot of the inputs -> out
"""
from __future__ import annotations

import copy
import json
import sys
import time
from typing import Any, Callable

import numpy as np
import torch
from torch.nn import functional as F
from torch_unet import UNet


class Side:
    """Keeps the networks that were built between requests; each method answers one request (see above)."""

    def __init__(self) -> None:
        self.made: dict[Any, Any] = {}
        self.on_gpu = False

    def hello(self, ask: dict[str, Any]) -> dict[str, Any]:
        self.on_gpu = ask["device"] == "cuda"
        torch.set_default_device(ask["device"])
        torch.backends.cudnn.benchmark = True                       # Jittor searches for the fastest too
        allow_tf32(False)                                           # fp32 is compared with fp32
        torch.zeros(1)                                              # fails here where there is no such device
        return {"version": torch.__version__, "threads": torch.get_num_threads()}

    def timed(self, run: Callable[[], Any], calls: int = 1) -> dict[str, float]:
        """Seconds of one of `calls` runs: by the wall clock, and of processor time (on a GPU the same)."""
        wait = torch.cuda.synchronize if self.on_gpu else (lambda: None)
        wait()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            run()
        wait()
        wall, cpu = (time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls
        return {"wall": wall, "cpu": wall if self.on_gpu else cpu}          # as ldm.benchmark.clock

    def operator(self, ask: dict[str, Any]) -> dict[str, float]:
        key = json.dumps(ask["operator"], sort_keys=True)
        if key not in self.made:
            self.made = {key: operator(**ask["operator"])}
        return self.timed(self.made[key], ask["calls"])

    def build(self, ask: dict[str, Any]) -> dict[str, Any]:
        self.network = UNet(**ask["config"])
        self.made = {}                                              # its copies, as they are asked for
        self.z = torch.randn(1, 3, ask["height"], ask["width"])
        self.map = torch.zeros(1, ask["config"]["num_classes"], ask["height"], ask["width"])
        self.map[:, 0] = 1
        return {}

    def run_pass(self, ask: dict[str, Any]) -> dict[str, float]:
        kind = ask["kind"]
        dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        layout = torch.channels_last if ask["channels_last"] else torch.contiguous_format
        if (dtype, layout) not in self.made:
            self.made[dtype, layout] = copy.deepcopy(self.network).to(dtype=dtype, memory_format=layout)
        network = self.made[dtype, layout]
        z, map_ = (x.to(dtype=dtype, memory_format=layout) for x in (self.z, self.map))
        allow_tf32(kind == "tf32")
        try:
            return self.timed(lambda: network(z, torch.tensor([500]), map_))
        finally:
            allow_tf32(False)

    def build_training(self, ask: dict[str, Any]) -> dict[str, Any]:
        self.made, self.training = {}, ask
        return {}

    def train(self, ask: dict[str, Any]) -> dict[str, float]:
        key = ask["kind"], ask["channels_last"]
        if key not in self.made:
            self.made[key] = training_step(*key, **{k: v for k, v in self.training.items() if k != "do"})
        return self.timed(self.made[key])

    def exact(self, ask: dict[str, Any]) -> dict[str, Any]:
        network = UNet(**ask["config"]).double()
        network.load_state_dict({k: torch.from_numpy(v) for k, v in np.load(ask["weights"]).items()})
        given = np.load(ask["inputs"])
        x, one_hot = (torch.tensor(given[name]).double() for name in ("x", "one_hot"))
        t = torch.tensor(given["t"])
        passes = [network(x[i:i + 1], t[i:i + 1], one_hot[i:i + 1]) for i in range(len(x))]
        np.savez(ask["output"], out=torch.cat(passes).cpu())
        return {}


def allow_tf32(allowed: bool) -> None:
    """Whether PyTorch may compute fp32 convolutions and products as TF32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def training_step(kind: str, channels_last: bool, config: dict[str, Any], batch: int, height: int,
                  width: int) -> Callable[[], Any]:
    """A function that runs one optimiser step: noise prediction, AdamW, the average of the weights."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    with torch.inference_mode(False):
        network = UNet(**config).to(memory_format=layout)
        parameters = list(network.parameters())
        average = [p.detach().clone() for p in parameters]
        optimizer = torch.optim.AdamW(parameters, 1e-4, weight_decay=0.0)
        classes = torch.randint(config["num_classes"], (batch, height, width))
        map_ = F.one_hot(classes, config["num_classes"]).permute(0, 3, 1, 2).float().contiguous()
        z, map_, eps = (x.to(memory_format=layout) for x in (
            torch.randn(batch, 3, height, width), map_, torch.randn(batch, 3, height, width)))
        t = torch.randint(1000, (batch,))

    def run():
        with torch.inference_mode(False), torch.enable_grad():
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(z.device.type, torch.bfloat16, enabled=kind == "bf16"):
                out = network(z, t, map_)
            (out[:, :3].float() - eps).square().mean().backward()
            optimizer.step()
        with torch.inference_mode(False), torch.no_grad():
            torch._foreach_lerp_(average, parameters, 0.01)
    return run


def operator(kind: str, channels: int, out_channels: int, height: int, width: int, kernel: int, heads: int,
             groups: int, modulated: bool) -> Callable[[], Any]:
    """A function that runs such an Operator (ldm.benchmark.operators) once."""
    x = torch.randn(1, channels, height, width)
    if kind == "conv":
        w, b = torch.randn(out_channels, channels, kernel, kernel), torch.randn(out_channels)
        return lambda: F.conv2d(x, w, b, padding=kernel // 2)
    if kind == "linear":
        w, b, x = torch.randn(out_channels, channels), torch.randn(out_channels), torch.randn(1, channels)
        return lambda: F.linear(x, w, b)
    if kind == "attention":
        q, k, v = (torch.randn(1, heads, height * width, channels) for _ in range(3))
        return lambda: F.scaled_dot_product_attention(q, k, v)
    if modulated:
        gain, offset = torch.randn_like(x), torch.randn_like(x)
        return lambda: F.silu(F.group_norm(x, groups) * gain + offset)
    gain, offset = torch.randn(channels), torch.randn(channels)
    return lambda: F.silu(F.group_norm(x, groups, gain, offset))


def main() -> None:
    side = Side()
    answers = {"hello": side.hello, "operator": side.operator, "build": side.build, "pass": side.run_pass,
               "build_training": side.build_training, "train": side.train, "exact": side.exact}
    with torch.inference_mode():
        for line in sys.stdin:
            ask = json.loads(line)
            print(json.dumps(answers[ask["do"]](ask)), flush=True)


if __name__ == "__main__":
    main()
