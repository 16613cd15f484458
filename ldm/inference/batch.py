"""What the pictures of one batch are made from, as checked arrays. Needs no Jittor."""
from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

import numpy as np

from ldm import labels
from ldm.errors import UserError


class Batch(NamedTuple):
    """N pictures. The noise of each is a function of its seed, its name and the round."""

    masks: np.ndarray                   # N x h x w uint8 classes, of the latents' size
    references: Optional[np.ndarray]    # N x H x W x 3 uint8; None: no style reference
    names: Sequence[str]
    seeds: Sequence[int]
    reference_masks: Optional[np.ndarray] = None    # N x h x w uint8 classes, for models that read them
    keep: Optional[np.ndarray] = None   # N x H x W bool: where the reference's pixels stay; None: nowhere

    def check(self, size: Sequence[int], latent_size: Sequence[int], uses_reference: bool) -> None:
        """Refuse arrays of other shapes and types, since compiled code trusts them.

        size, latent_size: (width, height) of pictures and of latents.
        """
        count, (width, height) = len(self.names), size
        if len(self.seeds) != count:
            raise UserError("seeds", f"are {len(self.seeds)} for {count} names", "give one for each name")
        if self.references is None and (uses_reference or self.keep is not None):
            raise UserError("references", "are missing, and these rounds use them",
                            "give them, or rounds from noise without color_transfer")
        wanted = [("masks", self.masks, (count, *latent_size[::-1]))]
        if self.references is not None:
            wanted.append(("references", self.references, (count, height, width, 3)))
        of_labels = [("masks", self.masks)]
        if self.reference_masks is not None:
            wanted.append(("reference_masks", self.reference_masks, (count, *latent_size[::-1])))
            of_labels.append(("reference_masks", self.reference_masks))
        if self.keep is not None and (self.keep.dtype != bool or self.keep.shape != (count, height, width)):
            raise UserError("keep", f"is {self.keep.dtype} of shape {self.keep.shape}",
                            f"give bool of shape {(count, height, width)}")
        for subject, array, shape in wanted:
            array = np.asarray(array)
            if array.shape != shape or array.dtype != np.uint8:
                raise UserError(subject, f"are {array.dtype} of shape {array.shape}",
                                f"give uint8 of shape {shape}")
        for subject, array in of_labels:
            if np.max(array, initial=0) >= labels.NUM_CLASSES:
                raise UserError(subject, f"hold label {np.max(array)}",
                                f"use labels 0..{labels.NUM_CLASSES - 1}")
