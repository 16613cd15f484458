"""The latent cache: every training image encoded once, straight and flipped, with its label map."""
import hashlib
import json
from pathlib import Path

import numpy as np

from ldm import images
from ldm.backend import jt
from ldm.errors import UserError
from ldm.files import replacing

FILES = {"latents": "latents.npy", "labels": "labels.npy"}


def fingerprint(state, size):
    """A hash of the autoencoder's weights and the image size: latents of another one must not be used."""
    digest = hashlib.sha256(repr(tuple(size)).encode())
    for name in sorted(state):
        digest.update(name.encode() + np.ascontiguousarray(state[name]).tobytes())
    return digest.hexdigest()[:16]


def to_network(image):
    """H x W x 3 uint8 -> 3 x H x W float32 in -1..1."""
    return image.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1


def from_network(array):
    """3 x H x W in about -1..1 -> H x W x 3 uint8, rounded and clipped."""
    return np.clip(np.round((array.transpose(1, 2, 0) + 1) * 127.5), 0, 255).astype(np.uint8)


def build(pairs, autoencoder, size, folder, batch=8, progress=lambda iterable: iterable):
    """Encode `pairs` into `folder`, unless it holds these pairs in these latents already.

    Written: latents.npy N x 2 x C x h x w float32 (straight, flipped),
    labels.npy N x h x w uint8, index.json.
    """
    folder = Path(folder)
    state = {name: p.numpy() for name, p in autoencoder.state_dict().items()}
    index = {"autoencoder": fingerprint(state, size), "images": [p.stem for p, _ in pairs]}
    if (folder / "index.json").exists() and json.loads((folder / "index.json").read_text()) == index:
        return
    small = (size[0] // autoencoder.factor, size[1] // autoencoder.factor)
    latents, labels = [], []
    for start in progress(range(0, len(pairs), batch)):
        part = pairs[start:start + batch]
        x = np.stack([to_network(images.read_image(p, size)) for p, _ in part])
        both = np.stack([x, x[..., ::-1]], axis=1).reshape(-1, *x.shape[1:])
        with jt.no_grad():
            z = autoencoder.encode(jt.array(both)).numpy()
        latents.append(z.reshape(len(part), 2, *z.shape[1:]))
        labels += [images.read_labels(p, small) for _, p in part]
    for name, array in (("latents", np.concatenate(latents)), ("labels", np.stack(labels))):
        with replacing(folder / FILES[name]) as temporary:
            np.save(temporary, array)
    with replacing(folder / "index.json") as temporary:    # last: its presence says that the cache is whole
        temporary.write_text(json.dumps(index))


class Latents:
    """A cache opened for training: memory-mapped, so that its size does not matter."""

    def __init__(self, folder):
        try:
            self.latents, self.labels = (np.load(Path(folder) / f, mmap_mode="r") for f in FILES.values())
        except (OSError, ValueError) as e:
            raise UserError(folder, f"is no latent cache ({e})", "let tools/train.py make it again")

    def __len__(self):
        return len(self.labels)

    def read(self, indices, flips):
        """-> (z N x C x h x w float32, labels N x h x w uint8), each straight or flipped."""
        z = np.stack([self.latents[i, f] for i, f in zip(indices, flips)])
        labels = np.stack([self.labels[i][:, ::-1] if f else self.labels[i] for i, f in zip(indices, flips)])
        return z, labels
