"""Training the VQ-GAN autoencoder: reconstruction, gradients, codebook; unused codes are revived."""
import cv2
import numpy as np

from ldm import images
from ldm.backend import jt
from ldm.datasets.latents import from_network, to_network
from ldm.training.order import batch_indices, generator

REVIVE_EVERY = 100          # steps; a code not chosen in so many starts anew at a latent of the last batch
KMEANS_SAMPLE = 50_000      # latents


def flat(z):
    """N x dim x h x w -> M x dim."""
    return z.transpose(0, 2, 3, 1).reshape(-1, z.shape[1])


class AutoencoderTask:
    """Random crops of `pictures` (N x H x W x 3 uint8), each flipped at random."""

    sections = ("image_size", "autoencoder", "autoencoder_training")

    def __init__(self, network, pictures, options):
        self.network, self.pictures, self.options = network, pictures, options
        self.used = np.zeros(network.quantize.embedding.weight.shape[0], np.int64)
        self.quantizes = options["quantize_after"] == 0

    def batch(self, step):
        o = self.options
        rng = generator(step, o["seed"], 0)
        crops = []
        for i in batch_indices(step, o["batch_size"], len(self.pictures), o["seed"]):
            H, W = self.pictures[i].shape[:2]
            side = min(o["crop"], H, W)
            y, x = rng.integers(H - side + 1), rng.integers(W - side + 1)
            crop = self.pictures[i][y:y + side, x:x + side]
            crops.append(to_network(crop[:, ::-1] if rng.random() < 0.5 else crop))
        return np.stack(crops)

    def loss(self, batch):
        """|x - x'| + weight |grad x - grad x'| + weight codebook loss. The gradient term stands in for a
        perceptual one: it asks for edges, where L1 alone is content with blur."""
        x = jt.array(batch)
        if self.quantizes:
            y, codebook, codes, z = self.network(x)
            self.codes = codes.detach()
        else:
            z = self.network.encode(x)
            y, codebook = self.network.decode_quantized(z), jt.zeros(1)
        self.latents = z.detach()
        l1 = (x - y).abs().mean()
        d = x - y
        gradient = (d[:, :, 1:] - d[:, :, :-1]).abs().mean() + (d[:, :, :, 1:] - d[:, :, :, :-1]).abs().mean()
        o = self.options
        loss = l1 + o["gradient_weight"] * gradient + o["codebook_weight"] * codebook
        return loss, {"l1": l1, "gradient": gradient, "codebook": codebook}

    def after_step(self, step):
        if self.quantizes:
            self.used += np.bincount(self.codes.numpy().reshape(-1), minlength=len(self.used))
            if step % REVIVE_EVERY == 0:
                self.revive(step)
        elif step == self.options["quantize_after"] < self.options["steps"]:
            self.fit_codebook(self.all_latents())
            self.quantizes = True

    def revive(self, step):
        """Move the codes that no latent chose lately to random latents of the last batch."""
        dead = np.flatnonzero(self.used == 0)
        z = flat(self.latents.numpy())
        book = self.network.quantize.embedding.weight
        entries = book.numpy()
        entries[dead] = z[generator(step, self.options["seed"], 1).integers(len(z), size=len(dead))]
        book.assign(jt.array(entries))
        self.used[:] = 0

    def all_latents(self):
        """Latents of all pictures before quantisation, M x dim."""
        with jt.no_grad():
            return np.concatenate([flat(self.network.encode(jt.array(to_network(p)[None])).numpy())
                                   for p in self.pictures])

    def fit_codebook(self, latents):
        """Set the codebook to the k-means centres of a sample of the latents."""
        book = self.network.quantize.embedding.weight
        rng = generator(0, self.options["seed"], 2)
        sample = latents[rng.permutation(len(latents))[:KMEANS_SAMPLE]]
        cv2.setRNGSeed(self.options["seed"])
        criteria = (cv2.TERM_CRITERIA_MAX_ITER, 10, 0)
        _, _, centres = cv2.kmeans(sample, min(book.shape[0], len(sample)), None, criteria, 1,
                                   cv2.KMEANS_RANDOM_CENTERS)
        entries = book.numpy()
        entries[:len(centres)] = centres
        book.assign(jt.array(entries))

    def finish(self):
        """Make the network what is handed over: a codebook, if training never used one, and latents
        of mean 0 and one standard deviation of 1, which the diffusion's noise levels assume; that
        changes no reconstruction."""
        z = self.all_latents()
        if self.options["quantize_after"] >= self.options["steps"]:
            self.fit_codebook(z)
        mean = z.mean(0, dtype=np.float64)
        self.network.rescale(mean.astype(np.float32), float(np.sqrt(np.mean((z - mean) ** 2))))

    def sample(self):
        """Four pictures above their reconstructions."""
        x = np.stack([to_network(p) for p in self.pictures[:4]])
        decode = self.network.decode if self.quantizes else self.network.decode_quantized
        y = decode(self.network.encode(jt.array(x))).numpy()
        return images.grid([list(self.pictures[:4]), [from_network(p) for p in y]])

    def arrays(self):
        return {"used": self.used, "quantizes": np.array([int(self.quantizes)])}

    def restore(self, arrays):
        self.used, self.quantizes = arrays["used"].copy(), bool(arrays["quantizes"][0])
