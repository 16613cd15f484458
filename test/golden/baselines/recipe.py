"""Weights and noise of the golden numbers from (seed, name, shape); numpy only. See README.md."""
import hashlib
import zlib

import numpy as np


def stream(seed, name):
    """One independent PCG64 stream for every name."""
    return np.random.default_rng([int(seed), zlib.crc32(name.encode("utf-8"))])


def noise(seed, name, shape):
    """Standard normal noise (VAE epsilon, SEAN's noise maps), float32."""
    return stream(seed, name).standard_normal(tuple(shape)).astype(np.float32)


ONE_HOT_INPUT = (".mlp_shared.0.weight", "fc.weight", "embedding.weight", "labelDec1.0.weight")


def make_weight(key, shape, seed):
    """THE weight recipe for everything except weight_u and weight_v."""
    shape = tuple(int(s) for s in shape)
    rng = stream(seed, key)
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.array(5, np.int64)
    n = rng.standard_normal(shape)                                   # float64
    if last == "running_mean":
        w = 0.3 * n
    elif last == "running_var":
        w = np.exp(0.4 * n)
    elif last in ("blending_gamma", "blending_beta"):                # SEAN
        w = n
    elif last == "noise_var":                                        # SEAN
        w = 0.3 * n
    elif last == "affine_params_groups":                             # SCGAN
        w = 0.5 * n
    elif "class_specified_affine" in key and "dist_conv" not in key:  # CLADE
        w = (1.0 if last == "weight" else 0.0) + 0.3 * n
    elif len(shape) >= 2:                                            # (transposed) convolution, linear
        plain = key.replace("weight_orig", "weight")
        one_hot = len(shape) == 4 and any(plain.endswith(end) for end in ONE_HOT_INPUT)
        fan_in = int(np.prod(shape[2:] if one_hot else shape[1:]))
        gain = np.sqrt(2.0) if key.startswith("features.") else 0.25 if key == "conv_img.weight" else 1.0
        w = gain * n / np.sqrt(fan_in)
    elif last in ("weight", "weight_orig"):
        w = 1.0 + 0.1 * n
    else:
        w = 0.1 * n
    return w.astype(np.float32)


def unit(x):
    return x / max(float(np.sqrt(np.dot(x, x))), 1e-12)


def make_weights(shapes, seed):
    """{name: array} for {name: shape}. u and v of a spectral norm are two power iterations old, from a random
    start: near the singular vectors, and far enough that one more changes the result."""
    weights = {k: make_weight(k, shapes[k], seed) for k in sorted(shapes)
               if not k.endswith(("weight_u", "weight_v"))}
    for key in sorted(shapes):
        if key.endswith("weight_u"):
            base = key[:-len("weight_u")]
            matrix = weights[base + "weight_orig"].astype(np.float64)
            matrix = matrix.reshape(matrix.shape[0], -1)
            u = unit(stream(seed, key).standard_normal(matrix.shape[0]))
            for _ in range(2):
                v = unit(matrix.T @ u)
                u = unit(matrix @ v)
            weights[base + "weight_u"] = u.astype(np.float32)
            weights[base + "weight_v"] = v.astype(np.float32)
    return {k: weights[k] for k in shapes}


def weights_sha256(weights):
    """Of everything but u and v, whose last bits may depend on the matrix library."""
    h = hashlib.sha256()
    for k in sorted(weights):
        if k.endswith(("weight_u", "weight_v")):
            continue
        h.update(k.encode())
        h.update(str(tuple(weights[k].shape)).encode())
        h.update(np.ascontiguousarray(weights[k], dtype="<f4").tobytes())
    return h.hexdigest()


def one_hot(labels, classes):
    """N x H x W labels to N x classes x H x W float32."""
    return np.moveaxis(np.eye(classes, dtype=np.float32)[labels], -1, 1).copy()


def stats(x):
    """Of large tensors: mean, population standard deviation, largest magnitude, first 61 values."""
    flat = np.asarray(x, np.float64).reshape(-1)
    head = np.zeros(61)
    head[:min(61, flat.size)] = flat[:61]
    return np.concatenate([[flat.mean(), flat.std(), np.abs(flat).max()], head]).astype(np.float32)
