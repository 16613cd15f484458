"""Algorithm 2: from the noised style reference to a landscape, in rounds, for a batch of arrays."""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Callable, Iterator, Optional, Sequence

import numpy as np

from ldm import labels
from ldm.backend import Var, jt
from ldm.diffusion import Schedule
from ldm.diffusion.guidance import guide
from ldm.diffusion.samplers import SAMPLERS
from ldm.images import to_network
from ldm.inference import pixels
from ldm.inference.batch import Batch
from ldm.inference.noise import ImageNoise
from ldm.inference.rounds import Round, Settings
from ldm.platform.cuda import memory as device_memory

Pictures = Sequence[Optional[np.ndarray]]       # H x W x 3 uint8 each; None: its numbers were not finite


@dataclass(frozen=True)
class Progress:
    """The state after a step. Rounds and steps count from 1."""

    round: int
    rounds: int
    index: int                              # of the step in its round
    count: int                              # steps of this round
    clean: Callable[[], np.ndarray]         # z_0 as the network predicts it now: N x 3 x h x w float32
    pictures: Optional[Pictures] = None     # after the very last step


class Kept:
    """Where the reference stays (inpainting): there its own latent is the prediction of z_0 at each step, so
    that every sampler carries it, at each step's level of noise, to the end.

    z0: latents of the references, N x 3 x h x w. where: N x 1 x h x w float32, 1 or 0.
    """

    def __init__(self, z0: np.ndarray, where: np.ndarray) -> None:
        self.z0, self.where = jt.array(z0), jt.array(where)

    def clean(self, z0: np.ndarray) -> np.ndarray:
        """`z0` with the references' latents in their place."""
        return np.where(self.where.numpy() > 0, self.z0.numpy(), z0)

    def noise(self, z: Var, eps: Var, alpha_bar: float) -> Var:
        """`eps`, and in their place the noise that turns the references' latents into `z`."""
        own = (z - float(np.sqrt(alpha_bar)) * self.z0) / float(np.sqrt(1 - alpha_bar))
        return eps + self.where * (own - eps)


class Guided:
    """The U-Net with label maps and guidance, as samplers call it. It keeps its latest prediction."""

    def __init__(self, unet: Any, round: Round, modulations: Sequence[Any], kept: Optional[Kept]) -> None:
        self.unet, self.round, (self.guided, self.empty), self.kept = unet, round, modulations, kept
        self.latest: Optional[tuple[Var, Var, int]] = None

    def __call__(self, z: Var, t: int) -> tuple[Var, Optional[Var]]:
        """See diffusion.protocols.Denoiser. The encoder runs once for both passes of guidance; outside of the
        round's interval there is one."""
        encoded = self.unet.encode(z, [t] * z.shape[0])
        out = self.unet.decode(*encoded, self.guided())
        eps, values = out[:, :3], out[:, 3:] if self.unet.learn_sigma else None
        if t in self.round.guided:
            eps = guide(eps, self.unet.decode(*encoded, self.empty())[:, :3], self.round.guidance)
        if self.kept:
            eps = self.kept.noise(z, eps, self.round.chain.alpha_bar[_index(self.round.chain, t)])
        self.latest = z, eps, t
        return eps, values

    def clean(self) -> Callable[[], np.ndarray]:
        """A function that computes the latest prediction of z_0."""
        return partial(_predict, self.round.chain, *(self.latest or ()))


def _index(chain: Schedule, t: int) -> int:
    return int(np.searchsorted(chain.timesteps, t))


def _predict(chain: Schedule, z: Var, eps: Var, t: int) -> np.ndarray:
    i = _index(chain, t)
    with np.errstate(over="ignore", invalid="ignore"):      # the paper's schedule divides by 3e-13
        return chain.predict_z0(z.numpy(), eps.numpy(), i).astype(np.float32)


class Refinement:
    """The networks and the rounds; `steps` makes the pictures of a batch.

    unet, autoencoder: networks, for pictures of `size` = (width, height). memory_limit: in MiB, for the
    modulations that are kept of a batch's label maps (370 an image at full size); beyond it they are
    computed again at every step.
    """

    def __init__(self, unet: Any, autoencoder: Any, schedule: Schedule, settings: Settings,
                 size: Sequence[int], memory_limit: Optional[int] = None) -> None:
        self.unet, self.autoencoder, self.schedule, self.settings = unet, autoencoder, schedule, settings
        self.size, self.memory_limit = tuple(size), memory_limit
        self.rounds = settings.for_schedule(schedule)
        self.pixels = pixels.of(settings)

    def with_settings(self, settings: Settings) -> Refinement:
        """The same networks with other rounds."""
        return type(self)(self.unet, self.autoencoder, self.schedule, settings, self.size, self.memory_limit)

    @property
    def latent_size(self) -> tuple[int, ...]:
        """Width and height of latents and of the label maps that the network sees."""
        return tuple(side // self.autoencoder.factor for side in self.size)

    def steps(self, batch: Batch) -> Iterator[Progress]:
        """Make a batch, step by step; the last Progress has the pictures.

        UserError: an array has another shape or type. MemoryError: the device's memory is not enough for so
        many images; everything allocated has been freed again.
        """
        batch.check(self.size, self.latent_size, self.settings.uses_reference)
        run, full = self.run(batch), False
        while True:
            try:
                with jt.no_grad():              # not around `yield`, where the caller's code runs
                    step = next(run, None)
            except RuntimeError as e:
                if not device_memory.ended(e):
                    raise
                full = True
            if full:                            # here the error and the Vars of its frames are freed
                del run
                jt.gc()
                raise MemoryError(f"{len(batch.names)} images at a time")
            if step is None:
                return
            yield step

    def pictures(self, batch: Batch, on_step: Callable[[], None] = lambda: None) -> Pictures:
        """All steps of `steps`; `on_step()` is called after each. -> the last round's pictures."""
        pictures: Pictures = []
        for step in self.steps(batch):
            pictures = step.pictures or []
            on_step()
        return pictures

    def run(self, batch: Batch) -> Iterator[Progress]:
        """Algorithm 2, without checks. The caller turns gradients off."""
        count = len(batch.names)
        references: Any = [None] * count if batch.references is None else batch.references
        finite = np.ones(count, bool)
        modulations, kept = self.modulate(batch.masks), self.kept(batch)
        pictures: Any = references
        for k, r in enumerate(self.rounds):
            if k > 0:
                pictures = [self.pixels.next_start(x, y, r.color_transfer)      # Eq. 6
                            for x, y in zip(pictures, references)]
            noise = ImageNoise(batch.seeds, batch.names, k)
            z = begin = self.start(pictures, r, noise, kept)                    # Eq. 1
            steps = self.denoise(begin, r, modulations, noise, kept)            # Eq. 5
            for index, (z, clean) in enumerate(steps, 1):       # noqa: B007 (the last z is used below)
                step = Progress(k + 1, len(self.rounds), index, r.start, clean)
                if step.index < step.count or step.round < step.rounds:
                    yield step
            latents = z.numpy()
            finite &= np.isfinite(latents).all((1, 2, 3))
            if not finite.all():
                z = jt.array(np.where(np.isfinite(latents), latents, 0))        # decoded, but not used
            pictures = self.decode(z)
        if batch.keep is not None:
            pictures = [np.where(keep[..., None], reference, x)
                        for keep, reference, x in zip(batch.keep, references, pictures)]
        yield replace(step, pictures=[x if good else None for x, good in zip(pictures, finite)])

    def kept(self, batch: Batch) -> Optional[Kept]:
        """For batches with `keep`; a latent's position is kept if all its pixels are."""
        if batch.keep is None or batch.references is None:
            return None
        count, factor, (width, height) = len(batch.names), self.autoencoder.factor, self.latent_size
        where = batch.keep.reshape(count, 1, height, factor, width, factor).all((3, 5))
        z0 = np.concatenate([self.encode(reference) for reference in batch.references])
        return Kept(z0, where.astype(np.float32))

    def modulate(self, masks: np.ndarray) -> tuple[Callable, Optional[Callable]]:
        """Functions that give the network's modulations of the maps, and of the empty map for every image."""
        same = (masks == masks[:1]).all()       # variations of one mask: modulations of one serve all
        one_hot = jt.array(labels.one_hot(masks[:1] if same else masks))
        guided = self.cached(lambda: self.unet.modulate(one_hot))
        if not any(any(r.guides) for r in self.rounds):
            return guided, None
        return guided, self.cached(lambda: self.unet.modulate_empty(*one_hot.shape[2:]))

    def cached(self, make: Callable[[], Any]) -> Callable[[], Any]:
        """A function that returns the result of `make`. `make` is called once and its result kept, unless
        that takes too much memory; then it is called each time."""
        made = make()
        if self.memory_limit is not None and mebibytes(made) > self.memory_limit:
            return make
        return lambda: made

    def start(self, pictures: Any, r: Round, noise: ImageNoise, kept: Optional[Kept] = None) -> Var:
        """The latent that a round begins with."""
        eps = noise((3, *self.latent_size[::-1]))
        if r.noise_index is None:
            return jt.array(eps)
        z0 = np.concatenate([self.encode(picture) for picture in pictures])
        if kept:
            z0 = kept.clean(z0)
        return jt.array(r.chain.add_noise(z0, r.noise_index, eps))

    def encode(self, picture: np.ndarray) -> np.ndarray:
        """H x W x 3 uint8 -> its latent 1 x 3 x h x w float32."""
        return self.autoencoder.encode(jt.array(to_network(picture)[None])).numpy()

    def denoise(self, z: Var, r: Round, modulations: Sequence[Any], noise: ImageNoise,
                kept: Optional[Kept] = None) -> Iterator[tuple[Var, Callable[[], np.ndarray]]]:
        """Sample a round with the settings' sampler; yields the latent and `Progress.clean` of each step."""
        model, shape = Guided(self.unet, r, modulations, kept), tuple(z.shape[1:])
        sampler = SAMPLERS[self.settings.sampler]
        for step in sampler(model, r.chain, z, r.start, lambda i: jt.array(noise(shape)), self.settings.eta):
            jt.sync([step.z, *step.history])        # the graph of one step at a time
            yield step.z, model.clean()

    def decode(self, z: Var) -> list[np.ndarray]:
        """Decode one image at a time, since at full size the decoder's activations need much memory."""
        return [self.pixels.decoded(self.autoencoder.decode(z[n:n + 1]).numpy()[0])
                for n in range(z.shape[0])]


def mebibytes(tree: Any) -> float:
    """The memory of all Vars in nested sequences, in MiB."""
    return tree.nbytes / 2 ** 20 if isinstance(tree, jt.Var) else sum(map(mebibytes, tree))
