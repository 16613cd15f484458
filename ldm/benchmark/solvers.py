"""How many steps a solver needs: one round from each reference, compared with the chain that visits every
step.

Imports no Jittor: the caller of `measure` provides a loaded pipeline.
"""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Sequence

import numpy as np

from ldm import images
from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.schedule import SPACINGS
from ldm.errors import UserError
from ldm.evaluation.quick import image_moments, quick_metrics
from ldm.inference import rounds
from ldm.inference.batch import Batch
from ldm.inference.pixels import NOT_FINITE

SOLVERS = ("ddim:time", "dpmpp_2m:time", "dpmpp_2m:logsnr", "dpmpp_2m:karras", "unipc_2:logsnr",
           "unipc_2:karras", "unipc_3:karras")
COUNTS = (5, 8, 12, 16, 20, 30, 50)


class Solver(NamedTuple):
    sampler: str
    spacing: str


class Pairs(NamedTuple):
    """The inputs: N names, label maps as in their files, references of the model's size."""

    names: list
    masks: list         # H x W uint8
    references: list    # H x W x 3 uint8


def solver(text: str) -> Solver:
    """"sampler:spacing" -> Solver. UserError for other texts, and for ancestral sampling, which solves no
    ODE."""
    known = [name for name in SAMPLERS if name != "ddpm"]
    sampler, _, spacing = text.partition(":")
    if sampler not in known or spacing not in SPACINGS:
        raise UserError(text, "is not a solver", f"give SAMPLER:SPACING, of {', '.join(known)} and "
                        f"{', '.join(SPACINGS)}")
    return Solver(sampler, spacing)


def read(items: Sequence[Any], size: tuple[int, int]) -> Pairs:
    """The Pairs of a job's items (ldm.inference.job), with references of `size` (width, height)."""
    return Pairs([item.mask.stem for item in items], [item.labels(size) for item in items],
                 [item.picture(size) for item in items])


def one_round(solver: Solver, steps: int, strength: float, guidance: float) -> rounds.Settings:
    """The settings of a single round by this solver."""
    options = {**rounds.ROUND, "strength": strength, "steps": steps, "spacing": solver.spacing,
               "guidance": guidance}
    settings = rounds.Settings(solver.sampler, 0.0, 0, [options])
    rounds.check_numbers("--strength, --steps or --guidance", settings)
    return settings


def recorded(pipeline: Any, settings: rounds.Settings) -> Any:
    """A Refinement with `pipeline`'s networks and these settings, which keeps the last decoded latent as
    `latent`."""
    core = pipeline.refinement

    class Recorded(type(core)):                 # type: ignore[misc]
        def decode(self, z):
            self.latent = z.numpy()
            return super().decode(z)
    return Recorded(core.unet, core.autoencoder, core.schedule, settings, core.size)


def make(pipeline: Any, settings: rounds.Settings, pairs: Pairs, seed: int,
         on_step: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray, float]:
    """(latents N x 3 x h x w, pictures N x H x W x 3 uint8, seconds), made one image at a time."""
    of_settings = recorded(pipeline, settings)
    latents, pictures, begin = [], [], time.perf_counter()
    for name, mask, reference in zip(*pairs):
        small = images.resize(mask, pipeline.latent_size, smooth=False)
        picture, = of_settings.pictures(Batch(small[None], reference[None], [name], [seed]), on_step)
        if picture is None:
            raise UserError(name, *NOT_FINITE)
        pictures.append(picture)
        latents.append(of_settings.latent[0])
    return np.stack(latents), np.stack(pictures), time.perf_counter() - begin


def distance(latents: np.ndarray, exact: np.ndarray) -> float:
    """Mean over images of the root mean square difference, in standard deviations of the exact latents."""
    return float(np.sqrt(((latents - exact) ** 2).mean((1, 2, 3))).mean() / exact.std())


def psnr(pictures: np.ndarray, exact: np.ndarray) -> float:
    """Mean over images, dB."""
    error = ((pictures.astype(np.float64) - exact) ** 2).mean((1, 2, 3))
    return float((10 * np.log10(255 ** 2 / np.maximum(error, 1e-3))).mean())


def all_steps(strength: float) -> int:
    """The number of steps that the chain of 1000 has up to `strength`."""
    return round(1000 * strength)


def measure(pipeline: Any, pairs: Pairs, settings: Sequence[rounds.Settings], seed: int = 0,
            segmenter: Any = None, real: Optional[np.ndarray] = None,
            on_step: Callable[..., Any] = lambda *_: None) -> dict[str, Any]:
    """The report: a table with a row for the chain of every step (DDIM), then one for each of `settings`,
    which come from `one_round` and differ in solver and steps only.

    segmenter: for M and, with `real` pictures N x H x W x 3 uint8 to compare with, FD-seg; None leaves both
    out. `on_step()` is called after each step of an image.
    """
    moments = image_moments(segmenter, real) if segmenter and real is not None else None
    strength, guidance = (settings[0].rounds[0][key] for key in ("strength", "guidance"))

    def row(one, exact=None):
        latents, pictures, seconds = make(pipeline, one, pairs, seed, on_step)
        quality = quick_metrics(pictures, pairs.masks, pairs.references, segmenter, moments)
        steps = one.rounds[0]["steps"]
        closeness = {"distance": 0.0, "PSNR": None} if exact is None else {
            "distance": distance(latents, exact[0]), "PSNR": psnr(pictures, exact[1])}
        return (latents, pictures), {
            "solver": one.sampler, "spacing": one.rounds[0]["spacing"], "steps": steps,
            "passes": steps * (2 if guidance > 1 else 1), "seconds": seconds / len(pairs.names), **closeness,
            **{name: value for name, value in quality.items() if value is not None}}

    exact, first = row(one_round(Solver("ddim", "time"), all_steps(strength), strength, guidance))
    rows = [first] + [row(one, exact)[1] for one in settings]
    title = (f"{len(pairs.names)} images, one round from strength {strength}, guidance {guidance}; distance "
             f"to all {all_steps(strength)} steps, in deviations of the latents")
    from ldm.benchmark.clock import machine
    return {"machine": machine(), "tables": [{"title": title, "rows": rows}]}


def plot(made: dict[str, Any], path: str | Path) -> None:
    """Draw a report of `measure`: distance and S against steps, a line for each solver. Needs matplotlib."""
    pyplot = plotting()
    rows = made["tables"][0]["rows"]
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name in dict.fromkeys((r["solver"], r["spacing"]) for r in rows[1:]):
        mine = [r for r in rows[1:] if (r["solver"], r["spacing"]) == name]
        for axis, column in zip(axes, ("distance", "S")):
            axis.plot([r["steps"] for r in mine], [r[column] for r in mine], marker="o",
                      label=", ".join(name))
    axes[1].axhline(rows[0]["S"], color="black", linestyle=":", label=f"{rows[0]['steps']} steps")
    axes[0].set_yscale("log")
    for axis, text in zip(axes, ("distance to every step, in deviations", "S, contest_overflow")):
        axis.set(xscale="log", xlabel="network steps", ylabel=text)
    axes[1].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def plotting() -> Any:
    """matplotlib's pyplot without a display; UserError where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise UserError("matplotlib", "is not installed", "run `pip install matplotlib`") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot
    return pyplot
