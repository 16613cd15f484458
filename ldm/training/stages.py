"""The parts of a U-Net's run with `training.sizes`: each part has pictures of one size.

The network is convolutional, with attention at coarse levels only, so it learns most from small pictures. A
step on them is cheaper: with a quarter of the sides it takes a sixteenth of the time.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Union


class Stage(NamedTuple):
    """Steps `start` .. `end` - 1 of a run. size: (width, height) of the pictures. seen: the number of
    pictures in all batches before it, so that the order of the pictures goes on."""
    size: tuple[int, int]
    batch_size: int
    start: int
    end: int
    seen: int

    def cache(self, whole: Union[str, Path], image_size: Any) -> Path:
        """The folder of this part's latents. whole: that of pictures of `image_size`; smaller ones are
        beside it."""
        whole = Path(whole)
        if self.size == tuple(image_size):
            return whole
        return whole.with_name(f"{whole.name}-{self.size[0]}x{self.size[1]}")


def stages(config: dict) -> list[Stage]:
    """The parts of the run of a checked config, in their order; at least one."""
    training = config["training"]
    last = {"size": config["image_size"], "batch_size": training["batch_size"], "until": training["steps"]}
    parts: list[Stage] = []
    start = seen = 0
    for part in [*training["sizes"], last]:
        end = min(part["until"], training["steps"])
        if end > start:
            width, height = part["size"]
            parts.append(Stage((width, height), part["batch_size"], start, end, seen))
            start, seen = end, seen + (end - start) * part["batch_size"]
    return parts
