"""Algorithm 2: from the noised style reference to a landscape, in rounds."""
from pathlib import Path

import numpy as np

from ldm import config as configs
from ldm import labels, weights
from ldm.backend import jt
from ldm.diffusion import Schedule
from ldm.diffusion.guidance import guide
from ldm.diffusion.samplers import SAMPLERS
from ldm.errors import UserError
from ldm.images import to_network
from ldm.inference import pixels
from ldm.inference.noise import ImageNoise
from ldm.networks import Autoencoder, UNet
from ldm.networks.onednn import for_inference
from ldm.networks.precision import apply as apply_precision
from ldm.platform.cuda import memory as device_memory
from ldm.weights.agreement import refuse_other_config


def mebibytes(tree):
    """Memory of all the Vars in nested sequences."""
    return tree.nbytes / 2 ** 20 if isinstance(tree, jt.Var) else sum(map(mebibytes, tree))


class Pipeline:
    """Masks and style references in, landscapes out. Its numbers are in `settings` (ldm.inference.rounds).

    memory_limit: MiB that what is kept of a batch's maps may take (370 an image at full size); what takes
    more is made anew for each step.
    """

    def __init__(self, unet, autoencoder, schedule, settings, size, memory_limit=None):
        self.unet, self.autoencoder, self.schedule, self.settings = unet, autoencoder, schedule, settings
        self.size = tuple(size)                                     # width, height of images
        self.rounds, self.memory_limit = settings.for_schedule(schedule), memory_limit
        self.pixels = pixels.of(settings)

    @classmethod
    def load(cls, folder, settings, unet=None, memory_limit=None, precision="fp32"):
        """From a model folder: config.yaml, autoencoder.safetensors, unet.safetensors. `unet`: another file
        of the U-Net's weights, such as one of the checkpoints that were averaged. precision: one of
        runtime.PRECISIONS."""
        folder = Path(folder)
        config = configs.load(folder / "config.yaml", networks=("unet", "autoencoder"))
        networks = UNet(**config["unet"]), Autoencoder(**config["autoencoder"])
        paths = {"unet": unet or folder / "unet.safetensors",
                 "autoencoder": folder / "autoencoder.safetensors"}
        for network, (part, path) in zip(networks, paths.items()):
            refuse_other_config(path, weights.load(path, network), config, part, folder / "config.yaml")
            network.eval()
            apply_precision(network, precision, inference=True)
        width, height = config["image_size"]
        factor = networks[1].factor
        networks = (for_inference(networks[0], height // factor, width // factor),
                    for_inference(networks[1], height, width))
        return cls(*networks, Schedule.named(config["schedule"]), settings, config["image_size"],
                   memory_limit)

    @property
    def latent_size(self):
        """Width and height of latents and of the label maps that the network sees."""
        return tuple(side // self.autoencoder.factor for side in self.size)

    def __call__(self, masks, references, names, seed=0, on_step=lambda: None) -> np.ndarray:
        """uint8 label maps N x h x w (latent size), references N x H x W x 3, N names -> uint8 N x H x W x 3.

        Noise comes from (seed, name, round). `on_step()` is called after each step of the chain. UserError:
        an array has another shape or type, or an image's numbers became NaN or infinite. MemoryError: the
        device's memory cannot hold so many images; all that was taken of it is free again.
        """
        pictures = self.pictures(masks, references, names, seed, on_step)
        for name, picture in zip(names, pictures):
            if picture is None:
                raise UserError(name, *pixels.NOT_FINITE)
        return np.stack([self.pixels.result(picture) for picture in pictures])

    def files(self, masks, references, names, seed=0, on_step=lambda: None, suffix="jpg") -> list:
        """As `__call__`, but the bytes of each result's image file, "jpg" or "png"; None for an image whose
        numbers became NaN or infinite."""
        pictures = self.pictures(masks, references, names, seed, on_step)
        return [None if picture is None else self.pixels.file(picture, suffix) for picture in pictures]

    def pictures(self, masks, references, names, seed, on_step):
        """The last round's pictures, None for what is not finite; see `__call__`."""
        self.check(masks, references, names)
        try:
            return self.run(masks, references, names, seed, on_step)
        except RuntimeError as e:
            if not device_memory.ended(e):
                raise
        jt.gc()                                 # here the error is gone, and with it the Vars of its frames
        raise MemoryError(f"{len(names)} images at a time")

    def check(self, masks, references, names):
        """Refuse arrays of other shapes and types: compiled code trusts them."""
        width, height = self.size
        wanted = (("masks", masks, (len(names), *self.latent_size[::-1])),
                  ("references", references, (len(names), height, width, 3)))
        for subject, array, shape in wanted:
            array = np.asarray(array)
            if array.shape != shape or array.dtype != np.uint8:
                raise UserError(subject, f"are {array.dtype} of shape {array.shape}",
                                f"uint8 of shape {shape} is needed")
        if np.max(masks, initial=0) >= labels.NUM_CLASSES:
            raise UserError("masks", f"hold label {np.max(masks)}", f"labels are 0..{labels.NUM_CLASSES - 1}")

    def run(self, masks, references, names, seed, on_step):
        finite = np.ones(len(names), bool)
        with jt.no_grad():
            modulations = self.modulate(masks)
            pictures = references
            for k, r in enumerate(self.rounds):
                if k > 0:
                    pictures = [self.pixels.next_start(x, y, r.color_transfer)  # Eq. 6
                                for x, y in zip(pictures, references)]
                noise = ImageNoise(seed, names, k)
                z = self.start(pictures, r, noise)                              # Eq. 1
                z = self.denoise(z, r, modulations, noise, on_step)             # Eq. 5
                latents = z.numpy()
                finite &= np.isfinite(latents).all((1, 2, 3))
                if not finite.all():
                    z = jt.array(np.where(np.isfinite(latents), latents, 0))    # decoded, but not taken
                pictures = self.decode(z)
        return [picture if good else None for picture, good in zip(pictures, finite)]

    def modulate(self, masks):
        """Functions that give what the network makes of the maps, and of the empty map for every image."""
        one_hot = jt.array(labels.one_hot(masks))
        guided = self.kept(lambda: self.unet.modulate(one_hot))
        if all(r.guidance <= 1 for r in self.rounds):
            return guided, None
        return guided, self.kept(lambda: self.unet.modulate_empty(*one_hot.shape[2:]))

    def kept(self, make):
        """A function that gives what `make` does: made once, unless it takes more memory than it may."""
        made = make()
        if self.memory_limit is not None and mebibytes(made) > self.memory_limit:
            return make
        return lambda: made

    def start(self, pictures, r, noise):
        """The latent that a round begins with."""
        eps = noise((3, *self.latent_size[::-1]))
        if r.noise_index is None:
            return jt.array(eps)
        z0 = np.concatenate([self.autoencoder.encode(jt.array(to_network(x)[None])).numpy()
                             for x in pictures])
        return jt.array(r.chain.add_noise(z0, r.noise_index, eps))

    def denoise(self, z, r, modulations, noise, on_step):
        """Down the round's chain with the settings' sampler; the encoder runs once a step for both passes."""
        guided, empty = modulations
        count, shape = z.shape[0], tuple(z.shape[1:])

        def model(z, t):
            encoded = self.unet.encode(z, [t] * count)
            out = self.unet.decode(*encoded, guided())
            eps, values = out[:, :3], out[:, 3:] if self.unet.learn_sigma else None
            if r.guidance > 1:
                eps = guide(eps, self.unet.decode(*encoded, empty())[:, :3], r.guidance)
            return eps, values

        sampler = SAMPLERS[self.settings.sampler]
        for step in sampler(model, r.chain, z, r.start, lambda i: jt.array(noise(shape)), self.settings.eta):
            z = step.z
            jt.sync([z, *step.history])             # the graph of one step at a time
            on_step()
        return z

    def decode(self, z):
        """One image at a time: at full size the decoder's activations are what needs memory."""
        return [self.pixels.decoded(self.autoencoder.decode(z[n:n + 1]).numpy()[0])
                for n in range(z.shape[0])]
