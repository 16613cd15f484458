"""Pictures of GauGAN, CLADE, SCGAN or SEAN: one pass of the generator, with the interface of a pipeline."""
from __future__ import annotations

import functools
import json
import os
import zlib
from typing import Callable, Mapping, Optional

import numpy as np

from ldm import __version__, files, labels, weights
from ldm.backend import jt
from ldm.baselines import inputs
from ldm.baselines.noise import ItemNoise
from ldm.baselines.synthesis import Style, Synthesis
from ldm.errors import UserError
from ldm.images import from_network, to_network
from ldm.inference import provenance, record
from ldm.inference.batch import Batch
from ldm.inference.makers import GAN
from ldm.platform.cuda import memory as device_memory
from ldm.weights.agreement import with_config


class GANPipeline:
    """Masks and style references in, pictures out. maker: the model folder and its config. hashes: of its
    weights, by network, where they are known."""

    step_count = 1

    def __init__(self, maker: GAN, hashes: Optional[Mapping[str, str]] = None) -> None:
        self.maker, self.hashes = maker, hashes
        folder, config = self.folder, self.config = maker.folder, maker.config
        self.size = self.latent_size = tuple(config["image_size"])
        self.network = Synthesis.of(config)
        self.paths = maker.paths
        for name, part in self.network.parts().items():
            weights.load(self.paths[name], part,
                         agrees=with_config(self.paths[name], config, name, folder / "config.yaml"))
        self.network.eval()

    @functools.cached_property
    def about(self) -> dict:
        """What made all pictures of this pipeline."""
        hashes = self.hashes or {name: files.sha256(path, 32) for name, path in self.paths.items()}
        return {"software": f"iidm-jittor {__version__}", "version": record.VERSION,
                "kind": self.config["kind"], "model": self.folder.resolve().name, "weights": dict(hashes),
                "size": list(self.size)}

    def files(self, batch: Batch, suffix: str = "jpg",
              on_step: Callable[[], None] = lambda: None) -> list[Optional[bytes]]:
        """The bytes of each picture's file, "jpg" or "png"; None for one whose numbers were not finite.

        UserError: an array has another shape or type. MemoryError: the device's memory cannot hold so many.
        """
        made = self.pictures(batch)
        on_step()
        return [None if picture is None else provenance.encoded(picture, suffix, text=json.dumps(
            {**self.about, "seed": seed, "name": name}))
            for picture, seed, name in zip(made, batch.seeds, batch.names)]

    def pictures(self, batch: Batch) -> list[Optional[np.ndarray]]:
        """As `files`, but the pictures, H x W x 3 uint8."""
        batch.check(self.size, self.latent_size, self.maker.uses_reference)
        if batch.reference_masks is None and self.maker.reads_reference_maps:
            raise UserError("reference_masks", "are missing, and this model reads the reference's regions",
                            "give the reference's label map, or set gan.sean.style_mask to target")
        try:
            made = self._made(batch)
        except RuntimeError as e:
            if not device_memory.ended(e):
                raise
            made = None
        if made is None:                        # here the error and the Vars of its frames are freed
            jt.gc()
            raise MemoryError(f"{len(batch.names)} images at a time")
        return [from_network(array) if np.isfinite(array).all() else None for array in made]

    def _made(self, batch):
        own = jt.array(labels.one_hot(batch.masks))
        regions = own
        if self.maker.reads_reference_maps:
            regions = jt.array(labels.one_hot(batch.reference_masks))
        noise = ItemNoise([(seed, zlib.crc32(os.fsencode(name)))
                           for seed, name in zip(batch.seeds, batch.names)])
        distance, clade = None, self.config["gan"]["clade"]
        if self.config["kind"] == "clade" and clade["distance"]:
            distance = jt.array(inputs.distances(batch.masks, clade["skip_label"]))
        with jt.no_grad():
            style = Style()
            if self.maker.uses_reference:
                references = jt.array(np.stack([to_network(picture) for picture in batch.references]))
                style = self.network.style(references, regions)
            made, _ = self.network(own, style, noise, distance)
            return made.numpy()

