"""Training the VQ-GAN autoencoder: reconstruction, codebook, and a discriminator from a given step on."""
from __future__ import annotations

from typing import Any, Iterable, Optional, Sequence

import numpy as np

from ldm import images
from ldm.backend import Var, jt
from ldm.images import from_network, to_network
from ldm.training.batch_order import batch_indices, generator
from ldm.training.tasks.adversary import Adversary, adaptive_weight
from ldm.training.tasks.codebook import Codebook, usage

REVIVE_EVERY = 100          # steps; a code unused for so long is set to a latent of the last batch
MEASURED = 64               # most pictures whose latents are measured: 0.8 million at 512 x 384
SATURATION = 2.5            # largest factor of the distance from grey
ADVERSARIAL = ("adversarial", "adaptive_weight", "discriminator")       # terms in the log


def flat(z: np.ndarray) -> np.ndarray:
    """N x dim x h x w -> M x dim."""
    return z.transpose(0, 2, 3, 1).reshape(-1, z.shape[1])


def recolor(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An H x W x 3 uint8 image with its channels in a random order and a random saturation: colours that are
    rare in landscapes, but not in photographs that may give a style."""
    x = image[..., rng.permutation(3)].astype(np.float32)
    grey = x.mean(2, keepdims=True)
    return np.clip(np.round(grey + rng.uniform(1, SATURATION) * (x - grey)), 0, 255).astype(np.uint8)


def gradient_loss(x: Var, y: Var) -> Var:
    """|grad x - grad y|, of images N x C x H x W. It penalises missing edges, which L1 hardly does."""
    d = x - y
    return (d[:, :, 1:] - d[:, :, :-1]).abs().mean() + (d[:, :, :, 1:] - d[:, :, :, :-1]).abs().mean()


def single(number: float) -> Var:
    """A float32 Var of one number."""
    return jt.array(np.array([number], np.float32))


class AutoencoderTask:
    """Trains on random crops of `pictures` (a sequence of H x W x 3 uint8), each flipped at random.

    options: the config's `autoencoder_training`. perceptual: an LPIPS; without it the gradient loss is used.
    """

    sections = ("image_size", "autoencoder", "autoencoder_training")

    def __init__(self, network: Any, pictures: Sequence[np.ndarray], options: dict,
                 perceptual: Optional[Any] = None) -> None:
        self.network, self.pictures, self.options = network, pictures, options
        self.perceptual = perceptual
        self.codebook = Codebook(network.quantize, options["seed"]) if network.quantize is not None else None
        self.quantizes = self.codebook is not None and (options["quantize_after"] == 0
                                                        or options["decoder_only"])
        self.fixed: list[tuple[Var, np.ndarray]] = []       # parameters that are not trained, their values
        if options["decoder_only"]:
            kept = [network.encoder, network.quant_conv] + ([network.quantize] if self.codebook else [])
            for part in kept:
                self.fixed += [(p.stop_grad(), p.numpy()) for p in part.parameters()]
        self.adversary = Adversary(options) if options["discriminator_weight"] else None
        self.opposed = options["discriminator_start"] == 0      # the discriminator takes part
        self.seen: list[tuple] = []         # (images, reconstructions, codes, latents) of a batch's parts

    def batch(self, step: int) -> np.ndarray:
        """Crops in -1..1, N x 3 x side x side float32. The side is `crop`, or that of the smallest picture's
        shorter side."""
        options = self.options
        rng = generator(step, options["seed"], 0)
        crops = []
        for i in batch_indices(step, options["batch_size"], len(self.pictures), options["seed"]):
            picture = self.pictures[i]
            H, W = picture.shape[:2]
            side = min(options["crop"], H, W)
            y, x = rng.integers(H - side + 1), rng.integers(W - side + 1)
            crop = picture[y:y + side, x:x + side]
            crops.append(to_network(crop[:, ::-1] if rng.random() < 0.5 else crop))
        return np.stack(crops)

    def loss(self, batch: np.ndarray) -> tuple[Var, dict[str, Var]]:
        """|x - x'| + weight (x - x')^2 + weight LPIPS(x, x') + weight codebook loss + weight lambda
        adversarial loss."""
        x = jt.array(batch)
        y, codebook, codes, z = self.reconstruct(x)
        l1 = (x - y).abs().mean()
        if self.perceptual:
            name, detail = "perceptual", self.perceptual(x, y).mean()
        else:
            name, detail = "gradient", gradient_loss(x, y)
        square = (x - y).sqr().mean()
        reconstruction = (l1 + self.options["square_weight"] * square
                          + self.options[f"{name}_weight"] * detail)
        loss = reconstruction + self.options["codebook_weight"] * codebook
        used, perplexity = 0.0, 0.0
        if self.codebook and codes is not None:
            used, perplexity = usage(codes, len(self.codebook.used))
        terms = {"l1": l1, "square": square, name: detail, "codebook": codebook,
                 "codes_used": single(used), "perplexity": single(perplexity)}
        if self.adversary:
            added, more = self.adversarial(reconstruction, y)
            loss, terms = loss + added, {**terms, **more}
        self.seen.append((batch, y.detach(), codes, z.detach()))
        return loss, terms

    def reconstruct(self, x: Var) -> tuple[Var, Var, Optional[np.ndarray], Var]:
        """(reconstruction, codebook loss, codes, latents) of images. Without a codebook, and before it is
        used, the latents are decoded as they are, and the codes are None."""
        decoder_only = self.options["decoder_only"]
        if self.quantizes and not decoder_only:
            y, codebook, codes, z = self.network(x)
            return y, codebook, codes.numpy(), z
        z = self.network.encode(x)
        z = z.detach() if decoder_only else z
        if not self.quantizes:
            return self.network.decode_quantized(z), jt.zeros(1), None, z
        entries, codes = self.network.quantize(z)
        return self.network.decode_quantized(entries), jt.zeros(1), codes.numpy(), z

    def adversarial(self, reconstruction: Var, y: Var) -> tuple[Var, dict[str, Var]]:
        """(the adversarial part of the loss of reconstructions y, terms to log); zeros before the
        discriminator takes part."""
        if self.adversary is None or not self.opposed:
            return jt.zeros(1), {name: jt.zeros(1) for name in ADVERSARIAL}
        deceit = self.adversary.generator_loss(y)
        weight = adaptive_weight(reconstruction, deceit, self.network.decoder.conv_out.weight)
        logged = deceit, weight, single(self.adversary.loss)        # its loss in the last step
        return self.options["discriminator_weight"] * weight * deceit, dict(zip(ADVERSARIAL, logged))

    def after_step(self, step: int) -> None:
        """The discriminator's step, on the reconstructions of the network's step; care of the codebook."""
        if self.adversary and self.opposed:
            self.adversary.update([(x, y) for x, y, _, _ in self.seen])
        self.opposed = step >= self.options["discriminator_start"]
        if self.codebook and not self.options["decoder_only"]:
            self.care_for(self.codebook, step)
        self.seen = []

    def care_for(self, codebook: Codebook, step: int) -> None:
        """Count the codes of a step and revive those that were not used; fit the codebook when its time
        comes."""
        if self.quantizes:
            for _, _, codes, _ in self.seen:
                codebook.count(codes)
            if step % REVIVE_EVERY == 0:
                codebook.revive(step, np.concatenate([flat(z.numpy()) for *_, z in self.seen]))
        elif self.options["quantize_after"] <= step < self.options["steps"]:
            codebook.fit(self.all_latents())
            self.quantizes = True

    def chosen(self) -> Sequence[int]:
        """The pictures whose latents are measured: all, or `MEASURED` random ones."""
        return sorted(generator(0, self.options["seed"], 3).permutation(len(self.pictures))[:MEASURED])

    def all_latents(self) -> np.ndarray:
        """Latents before quantisation, M x dim, of the `chosen` pictures."""
        return self.latents_of(self.pictures[i] for i in self.chosen())

    def recolored_latents(self, share: float) -> np.ndarray:
        """Those of some of the `chosen` pictures in other colours; with `all_latents` they are this share."""
        chosen = self.chosen()
        count = min(round(share / (1 - share) * len(chosen)), len(chosen))
        return self.latents_of(recolor(self.pictures[i], generator(int(i), self.options["seed"], 4))
                               for i in chosen[:count])

    def latents_of(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """Latents before quantisation, M x dim, of H x W x 3 uint8 pictures."""
        with jt.no_grad():
            return np.concatenate([flat(self.network.encode(jt.array(to_network(picture)[None])).numpy())
                                   for picture in pictures]
                                  or [np.zeros((0, self.network.quant_conv.weight.shape[0]))])

    def finish(self) -> None:
        """Prepare the trained network for use. Fit a codebook if training used none or `refit` is above 0.
        Scale the latents to mean 0 and standard deviation 1, as the noise levels of the diffusion assume;
        this changes no reconstruction. With `decoder_only` encoder and codebook only get their bits back, as
        averaging rounds."""
        if self.options["decoder_only"]:
            for p, values in self.fixed:
                p.assign(jt.array(values))
            return
        z, refit = self.all_latents(), self.options["refit"]
        if self.codebook and (refit or not self.quantizes):
            self.codebook.fit(np.concatenate([z, self.recolored_latents(refit)]) if refit else z)
        mean = z.mean(0, dtype=np.float64)
        self.network.rescale(mean.astype(np.float32), float(np.sqrt(np.mean((z - mean) ** 2))))

    def sample(self) -> np.ndarray:
        """Four pictures above their reconstructions."""
        pictures = [self.pictures[i] for i in range(min(4, len(self.pictures)))]
        decode = self.network.decode if self.quantizes else self.network.decode_quantized
        y = decode(self.network.encode(jt.array(np.stack(list(map(to_network, pictures)))))).numpy()
        return images.grid([pictures, [from_network(p) for p in y]])

    def arrays(self) -> dict[str, np.ndarray]:
        """Counts of the codes, what takes part, and the discriminator."""
        discriminator = self.adversary.arrays() if self.adversary else {}
        used = self.codebook.used if self.codebook else np.zeros(0, np.int64)
        return {"used": used, "quantizes": np.array([int(self.quantizes)]),
                "opposed": np.array([int(self.opposed)]),
                **{f"discriminator/{name}": array for name, array in discriminator.items()}}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue from what `arrays` returned."""
        if self.codebook:
            self.codebook.used = arrays["used"].copy()
        self.quantizes = bool(arrays["quantizes"][0])
        self.opposed = bool(arrays["opposed"][0])
        if self.adversary:
            prefix = "discriminator/"
            self.adversary.restore({name[len(prefix):]: array for name, array in arrays.items()
                                    if name.startswith(prefix)})
