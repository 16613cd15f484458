"""Training the VQ-GAN autoencoder: reconstruction, codebook, and a discriminator from a given step on."""
import numpy as np

from ldm import images
from ldm.backend import jt
from ldm.images import from_network, to_network
from ldm.training.batch_order import batch_indices, generator
from ldm.training.tasks.adversary import Adversary, adaptive_weight
from ldm.training.tasks.codebook import Codebook, usage

REVIVE_EVERY = 100          # steps; a code not chosen in so many starts anew at a latent of the last batch
MEASURED = 1000             # pictures at most, whose latents are measured
ADVERSARIAL = ("adversarial", "adaptive_weight", "discriminator")       # what is logged of it


def flat(z):
    """N x dim x h x w -> M x dim."""
    return z.transpose(0, 2, 3, 1).reshape(-1, z.shape[1])


def gradient_loss(x, y):
    """|grad x - grad y|: it asks for edges, where L1 alone is content with blur."""
    d = x - y
    return (d[:, :, 1:] - d[:, :, :-1]).abs().mean() + (d[:, :, :, 1:] - d[:, :, :, :-1]).abs().mean()


class AutoencoderTask:
    """Random crops of `pictures` (a sequence of H x W x 3 uint8), each flipped at random.

    perceptual: an LPIPS; without one the gradient loss stands in for it.
    """

    sections = ("image_size", "autoencoder", "autoencoder_training")

    def __init__(self, network, pictures, options, perceptual=None):
        self.network, self.pictures, self.options = network, pictures, options
        self.perceptual = perceptual
        self.codebook = Codebook(network.quantize, options["seed"])
        self.quantizes = options["quantize_after"] == 0
        self.adversary = Adversary(options) if options["discriminator_weight"] else None
        self.opposed = options["discriminator_start"] == 0
        self.seen = []                      # (images, reconstructions, codes, latents) of a batch's parts

    def batch(self, step):
        o = self.options
        rng = generator(step, o["seed"], 0)
        crops = []
        for i in batch_indices(step, o["batch_size"], len(self.pictures), o["seed"]):
            picture = self.pictures[i]
            H, W = picture.shape[:2]
            side = min(o["crop"], H, W)
            y, x = rng.integers(H - side + 1), rng.integers(W - side + 1)
            crop = picture[y:y + side, x:x + side]
            crops.append(to_network(crop[:, ::-1] if rng.random() < 0.5 else crop))
        return np.stack(crops)

    def loss(self, batch):
        """|x - x'| + weight LPIPS(x, x') + weight codebook loss + weight lambda adversarial loss."""
        o, x = self.options, jt.array(batch)
        y, codebook, codes, z = self.reconstruct(x)
        l1 = (x - y).abs().mean()
        if self.perceptual:
            name, detail = "perceptual", self.perceptual(x, y).mean()
        else:
            name, detail = "gradient", gradient_loss(x, y)
        reconstruction = l1 + o[f"{name}_weight"] * detail
        loss = reconstruction + o["codebook_weight"] * codebook
        used, perplexity = usage(codes, len(self.codebook.used)) if self.quantizes else (0, 0)
        terms = {"l1": l1, name: detail, "codebook": codebook,
                 "codes_used": jt.array(np.float32([used])), "perplexity": jt.array(np.float32([perplexity]))}
        if self.adversary:
            added, more = self.adversarial(reconstruction, y)
            loss, terms = loss + added, {**terms, **more}
        self.seen.append((batch, y.detach(), codes, z.detach()))
        return loss, terms

    def reconstruct(self, x):
        """-> (reconstruction, codebook loss, codes as numpy, latents); before there is a codebook the latents
        are decoded as they are, and there are no codes."""
        if self.quantizes:
            y, codebook, codes, z = self.network(x)
            return y, codebook, codes.numpy(), z
        z = self.network.encode(x)
        return self.network.decode_quantized(z), jt.zeros(1), None, z

    def adversarial(self, reconstruction, y):
        """(what the discriminator adds to the loss, what is logged of it); nothing before its time."""
        if not self.opposed:
            return jt.zeros(1), {name: jt.zeros(1) for name in ADVERSARIAL}
        fooled = self.adversary.against(y)
        balance = adaptive_weight(reconstruction, fooled, self.network.decoder.conv_out.weight)
        logged = fooled, balance, jt.array(np.float32([self.adversary.loss]))      # its loss in the last step
        return self.options["discriminator_weight"] * balance * fooled, dict(zip(ADVERSARIAL, logged))

    def after_step(self, step):
        """The discriminator's own step, on the reconstructions that the network's was made with; codes."""
        if self.adversary and self.opposed:
            self.adversary.update([(x, y) for x, y, _, _ in self.seen])
        self.opposed = step >= self.options["discriminator_start"]
        if self.quantizes:
            for _, _, codes, _ in self.seen:
                self.codebook.count(codes)
            if step % REVIVE_EVERY == 0:
                self.codebook.revive(step, np.concatenate([flat(z.numpy()) for *_, z in self.seen]))
        elif self.options["quantize_after"] <= step < self.options["steps"]:
            self.codebook.fit(self.all_latents())
            self.quantizes = True
        self.seen = []

    def all_latents(self):
        """Latents before quantisation, M x dim, of all pictures or a random thousand of them."""
        chosen = sorted(generator(0, self.options["seed"], 3).permutation(len(self.pictures))[:MEASURED])
        pictures = (jt.array(to_network(self.pictures[i])[None]) for i in chosen)
        with jt.no_grad():
            return np.concatenate([flat(self.network.encode(x).numpy()) for x in pictures])

    def finish(self):
        """Make the network what is handed over: a codebook, if training never used one, and latents
        of mean 0 and one standard deviation of 1, which the diffusion's noise levels assume; that
        changes no reconstruction."""
        z = self.all_latents()
        if not self.quantizes:
            self.codebook.fit(z)
        mean = z.mean(0, dtype=np.float64)
        self.network.rescale(mean.astype(np.float32), float(np.sqrt(np.mean((z - mean) ** 2))))

    def sample(self):
        """Four pictures above their reconstructions."""
        pictures = [self.pictures[i] for i in range(min(4, len(self.pictures)))]
        decode = self.network.decode if self.quantizes else self.network.decode_quantized
        y = decode(self.network.encode(jt.array(np.stack(list(map(to_network, pictures)))))).numpy()
        return images.grid([pictures, [from_network(p) for p in y]])

    def arrays(self):
        discriminator = self.adversary.arrays() if self.adversary else {}
        return {"used": self.codebook.used, "quantizes": np.array([int(self.quantizes)]),
                "opposed": np.array([int(self.opposed)]),
                **{f"discriminator/{name}": array for name, array in discriminator.items()}}

    def restore(self, arrays):
        self.codebook.used, self.quantizes = arrays["used"].copy(), bool(arrays["quantizes"][0])
        self.opposed = bool(arrays["opposed"][0])
        if self.adversary:
            prefix = "discriminator/"
            self.adversary.restore({name[len(prefix):]: array for name, array in arrays.items()
                                    if name.startswith(prefix)})
