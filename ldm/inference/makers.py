"""How a model folder makes pictures, by the `kind` in its config. Needs no Jittor, so a maker can be sent to
a process.

A maker lists what decides about its pictures, and loads a pipeline: `files(batch, suffix, on_step)`, `size`,
`latent_size`, `step_count`.
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Union

from ldm import config as configs
from ldm import files, sizes, values
from ldm.diffusion import Schedule
from ldm.errors import UserError
from ldm.images import AS_IS, Reading, Size
from ldm.inference import estimate, fastest, pixels, record
from ldm.inference import rounds as rounds_of
from ldm.weights.agreement import SECTIONS

Needs = tuple[float, Optional[float]]       # bytes of a process, multiply-accumulates of a picture if known


@dataclass(frozen=True)
class Rounds:
    """IIDM: the diffusion model, in the rounds that `settings` names. unet: another file of its weights."""

    folder: Path
    config: dict
    settings: rounds_of.Settings
    precision: str = "fp32"
    memory_limit: Optional[int] = None
    unet: Optional[Path] = None
    size: Optional[Size] = None         # of the pictures, if not the config's
    reads_reference_maps = False

    @property
    def uses_reference(self) -> bool:
        """Whether its pictures need a reference."""
        return self.settings.uses_reference

    @property
    def steps(self) -> int:
        """Network steps of a picture."""
        return self.settings.steps(Schedule.named(self.config["schedule"]))

    @property
    def suffixes(self) -> Sequence[str]:
        """The formats of files that it can write."""
        return pixels.of(self.settings).suffixes

    @property
    def paths(self) -> dict[str, Path]:
        """{network: its file of weights}."""
        return {"unet": self.unet or self.folder / "unet.safetensors",
                "autoencoder": self.folder / "autoencoder.safetensors"}

    @property
    def operators(self) -> str:
        """A name for the operators that are compiled at first use."""
        return f"inference {self.config['unet']} {self.config['autoencoder']}"

    def made_by(self, seed: Optional[int], reading: Reading = AS_IS,
                hashes: Optional[record.Hashes] = None) -> dict:
        """Everything that decides about its pictures besides their inputs. seed: None if each picture has its
        own."""
        return record.made_by(self.settings, self.folder, seed, self.precision, self.unet, reading, hashes,
                              self.size)

    def load(self, hashes: Optional[Mapping[str, str]] = None) -> Any:
        """The pipeline. hashes: of the weights by network, where they are known."""
        from ldm.inference import Pipeline
        return Pipeline.load(self.folder, self.settings, size=self.size, precision=self.precision,
                             unet=self.unet, memory_limit=self.memory_limit, hashes=hashes)

    def needs(self, batch_size: int) -> Needs:
        """The memory and the computation of making pictures. It opens the weights, to check their headers."""
        from ldm import weights
        from ldm.networks import Autoencoder, UNet
        from ldm.weights.agreement import with_config
        for name, network in (("unet", UNet), ("autoencoder", Autoencoder)):
            path = self.folder / f"{name}.safetensors"
            weights.check(path, network(**self.config[name]),
                          agrees=with_config(path, self.config, name, self.folder / "config.yaml"))
        return (estimate.memory(self.config, batch_size, self.memory_limit, self.precision),
                estimate.macs(self.config, self.settings, Schedule.named(self.config["schedule"])))


@dataclass(frozen=True)
class GAN:
    """GauGAN, CLADE, SCGAN or SEAN: one pass of the generator."""

    folder: Path
    config: dict
    steps = 1
    precision = "fp32"
    suffixes = ("jpg", "png")

    @property
    def uses_reference(self) -> bool:
        """Whether its pictures need a reference; SCGAN without VAE does not look at it."""
        return self.config["gan"]["vae"] or self.config["kind"] == "sean"

    @property
    def reads_reference_maps(self) -> bool:
        """Whether it needs the label map of each reference: SEAN, with the reference's own regions."""
        return self.config["kind"] == "sean" and self.config["gan"]["sean"]["style_mask"] == "reference"

    @property
    def operators(self) -> str:
        """A name for the operators that are compiled at first use."""
        return f"inference {self.config['kind']} {self.config['gan']}"

    @property
    def paths(self) -> dict[str, Path]:
        """{network: its file of weights}."""
        names = ("generator", "encoder") if self.config["gan"]["vae"] else ("generator",)
        return {name: self.folder / f"{name}.safetensors" for name in names}

    def made_by(self, seed: Optional[int], reading: Reading = AS_IS,
                hashes: Optional[record.Hashes] = None) -> dict:
        """Everything that decides about its pictures besides their inputs. seed: None if each picture has its
        own."""
        sha256 = hashes.of if hashes else lambda path: files.sha256(path, 32)
        return json.loads(json.dumps({
            "version": record.VERSION, "seed": seed, **reading.tree(),
            "weights": {name: sha256(path) for name, path in self.paths.items()},
            "model": {key: self.config[key] for key in SECTIONS["generator"]}}))

    def load(self, hashes: Optional[Mapping[str, str]] = None) -> Any:
        """The pipeline. hashes: of the weights by network, where they are known."""
        from ldm.inference.gan import GANPipeline
        return GANPipeline(self, hashes)

    def needs(self, batch_size: int) -> Needs:
        """The memory and the computation of making pictures. It opens the weights, to check their headers."""
        from ldm import weights
        from ldm.baselines.models import expected_shapes
        from ldm.weights.agreement import with_config
        for name, path in self.paths.items():
            weights.check(path, expected_shapes(self.config, name),
                          agrees=with_config(path, self.config, name, self.folder / "config.yaml"))
        maps = estimate.MAPS * batch_size * sizes.largest(self.config, "gan")
        return estimate.PROGRAM + 2 * sizes.FLOAT * sizes.gan(self.config) + maps, None


Maker = Union[Rounds, GAN]


def of_folder(folder: Path, rounds: Optional[Path] = None, overrides: Sequence[str] = (),
              precision: str = "fp32", memory_limit: Optional[int] = None,
              size: Optional[Size] = None) -> Maker:
    """The maker of a model folder. The other arguments are for IIDM. precision: one of runtime.PRECISIONS, or
    fastest.AUTO.

    rounds: a file, by default the one that the config names; overrides: assignments for it. size: of the
    pictures, if not the config's. UserError if the config has an unknown kind, or if an option does not apply
    to its kind.
    """
    path = folder / "config.yaml"
    settings = rounds_of.load(rounds, overrides) if rounds else None
    kind = configs.load(path)["kind"]
    if kind == "iidm":
        config = configs.load(path, networks=("unet", "autoencoder"))
        settings = settings or rounds_of.of_model(config, path, overrides)
        if size is not None:
            config = values.resized(config, size, "--size")
        precision = fastest.chosen(precision, config)
        return Rounds(folder, config, settings, precision, memory_limit, size=size)
    for option, given in (("--rounds", rounds or overrides), ("--precision", precision != "fp32"),
                          ("--memory-limit", memory_limit is not None), ("--size", size is not None)):
        if given:
            raise UserError(option, f"is given, but {folder} holds a {kind}, which has none", "leave it out")
    return GAN(folder, configs.load(path, networks=("gan",)))
