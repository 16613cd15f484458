"""Pictures with the statistics of photographs, made of nothing, to train the autoencoder on.

Neighbouring pixels of a photograph are alike, and its power falls with the frequency f as f^-2 or f^-3.
Things hide each other, which makes edges of all sizes. Bright skies and dark rooms are smooth. Blurred discs,
grain and the blocks of JPEG come from the camera. Dead leaves (Lee, Mumford and Huang, "Occlusion models for
natural images", 2001) give most of this: shapes cover each other, and their number falls with the
cube of their size.
"""
from __future__ import annotations

import cv2
import numpy as np

from ldm.datasets.procedural import noise
from ldm.datasets.procedural.terrain import smoothstep

KINDS = ("leaves", "ground", "clouds", "gradient", "bokeh")
SHARES = (0.35, 0.25, 0.15, 0.10, 0.15)          # of the kinds among the pictures
LEAVES = 620                                     # shapes of a picture
STREAM = 7                                       # apart from the streams of the scenes


def make_photo(seed: int, index: int, size: tuple[int, int] = (512, 384)) -> np.ndarray:
    """Picture `index` of the series `seed`, from these two alone: H x W x 3 uint8 RGB.

    `size` = (width, height) in pixels; `seed` and `index` are integers of at least 0.
    """
    rng = np.random.default_rng([seed, index, STREAM])
    kind = KINDS[int(rng.choice(len(KINDS), p=SHARES))]
    colors = _colors(rng)
    image = {"leaves": _leaves, "ground": _ground, "clouds": _clouds, "gradient": _gradient,
             "bokeh": _bokeh}[kind](rng, colors, *size)
    return _develop(rng, image)


def _colors(rng):
    """Eight colours that belong together, in linear light, float32 8 x 3: few hues, dark and bright."""
    hues = rng.uniform(0, 2 * np.pi, 3)[rng.integers(0, 3, 8)] + rng.normal(0, 0.25, 8)
    chroma = 2.1 * rng.beta(1.2, 1.6) * rng.uniform(0.3, 1.2, 8)
    luma = np.exp(rng.normal(np.log(0.2), 0.9, 8))
    axes = np.array([[0.71, 0.0, -0.71], [-0.41, 0.82, -0.41]])   # red against blue, green against both
    tint = chroma[:, None] * (np.cos(hues)[:, None] * axes[0] + 0.8 * np.sin(hues)[:, None] * axes[1])
    return np.clip(luma[:, None] * np.exp(tint), 0.002, 1.3).astype(np.float32)


def _texture(rng, kind, width, height, scale):
    """Noise of a picture's size, `scale` texels a pixel, turned by any angle."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    u, v = scale * (np.cos(angle) * x - np.sin(angle) * y), scale * (np.sin(angle) * x + np.cos(angle) * y)
    return noise.sample(kind, u, v, rng.uniform(0, noise.SIDE, 2))


def _outline(rng, x, y, radius):
    """The corners of one shape in pixels: a petal, a box, a ragged stone or a bent blade."""
    form, stretch, turn = rng.random(), rng.uniform(0.25, 1.0), rng.uniform(0, np.pi)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    reach = np.ones(16)
    if form < 0.15:
        angles = np.pi / 4 + np.arange(4) * np.pi / 2
        reach = 1.2
    elif form < 0.35:
        reach = rng.uniform(0.65, 1.25, 16)
    elif form < 0.6:
        radius, stretch = 2.2 * radius, rng.uniform(0.02, 0.15)
    across, along = radius * reach * np.cos(angles), radius * stretch * reach * np.sin(angles)
    along = along + rng.normal(0, 0.25) * across ** 2 / radius    # bent
    return np.stack([x + np.cos(turn) * across - np.sin(turn) * along,
                     y + np.sin(turn) * across + np.cos(turn) * along], axis=1)


def _shapes(rng, width, height, count, largest, smallest=5.0):
    """Which shape each pixel shows, height x width int32 of 0..count - 1, at the size given."""
    share = rng.random(count)                    # radii with a density of r^-3
    radii = 1 / np.sqrt(share / smallest ** 2 + (1 - share) / largest ** 2)
    radii[:12] = largest * rng.uniform(0.7, 1.3, 12)              # behind the others: no ground is left bare
    owner = np.zeros((height, width), np.int32)
    for k, radius in enumerate(radii):
        points = _outline(rng, rng.uniform(-0.1, 1.1) * width, rng.uniform(-0.1, 1.1) * height, radius)
        cv2.fillPoly(owner, [np.round(points * 16).astype(np.int32)], int(k), cv2.LINE_8, 4)
    return owner


def _leaves(rng, colors, width, height):
    """Shapes over each other, each with its own colour, slant of light and roughness."""
    wide, tall = int(1.5 * width), int(1.5 * height)              # reduced at the end: smooth edges
    owner = _shapes(rng, wide, tall, LEAVES, rng.uniform(0.2, 0.6) * width, rng.uniform(4, 14) * width / 512)
    own = colors[rng.integers(0, 8, LEAVES)] * np.exp(rng.normal(0, 0.25, (LEAVES, 1))).astype(np.float32)
    slant = rng.normal(0, 0.5, (LEAVES, 2)).astype(np.float32)
    rough = (rng.exponential(0.16, LEAVES) * (rng.random(LEAVES) < 0.8)).astype(np.float32)
    image = np.take(own, owner, axis=0)
    texture = _texture(rng, str(rng.choice(["rough", "leaves", "cloud", "blades"])), wide, tall,
                       rng.uniform(0.4, 1.0))
    shade = 0.3 * _texture(rng, "cloud", wide, tall, rng.uniform(0.2, 0.6))      # light falls in patches
    x, y = (np.linspace(-1, 1, n, dtype=np.float32) for n in (wide, tall))
    light = shade + np.take(rough, owner) * texture + np.take(slant[:, 0], owner) * x[None]
    light += np.take(slant[:, 1], owner) * y[:, None]
    image *= np.exp(np.clip(light, -2, 1.5))[..., None]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _ground(rng, colors, width, height):
    """A sky that fades to the horizon over a rough land of shapes that grow smaller with the distance."""
    image = _leaves(rng, colors, width, height)
    image *= np.exp(0.45 * _texture(rng, "rough", width, height, rng.uniform(0.5, 1.5)))[..., None]
    skyline = height * rng.uniform(0.25, 0.65)
    ridge = noise.crop("cloud", 1, width, rng.uniform(0, noise.SIDE, 2))[0] * height * rng.uniform(0.01, 0.08)
    row = np.arange(height, dtype=np.float32)[:, None]
    bright = np.repeat(colors[np.argsort(colors.sum(axis=1))[4:]], 2, axis=0)
    sky = _gradient(rng, 1.5 * bright + 0.05, width, height)
    haze = np.exp(-np.maximum(row - skyline, 0) / (height * rng.uniform(0.03, 0.2)))[..., None]
    image += haze * rng.uniform(0.2, 0.8) * (sky - image)
    below = smoothstep(row - skyline - ridge[None], -0.7, 0.7)[..., None]
    return sky + below * (image - sky)


def _clouds(rng, colors, width, height):
    """Noise whose power falls as f^-2, one pattern for the brightness and fainter ones for the colours."""
    base, other = colors[np.argsort(colors.sum(axis=1))[[2, 6]]]
    scale = rng.uniform(0.25, 1.2)
    pattern = _texture(rng, str(rng.choice(["cloud", "heap", "rough"])), width, height, scale)
    tint = np.stack([_texture(rng, "cloud", width, height, 0.5 * scale) for _ in range(3)], axis=2)
    mix = smoothstep(pattern, -rng.uniform(0.5, 2), rng.uniform(0.5, 2))[..., None]
    return (base + mix * (other - base)) * np.exp(rng.uniform(0.2, 0.7) * pattern[..., None] + 0.08 * tint)


def _gradient(rng, colors, width, height):
    """A smooth sky or wall: colours that change along a line and around a light, as good as without noise."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(width)
    angle = rng.normal(np.pi / 2, 0.4)
    along = x * np.cos(angle) + y * np.sin(angle)
    along = ((along - along.min()) / np.ptp(along)) ** rng.uniform(0.5, 2)
    first, last, glow = colors[rng.integers(0, 8, 3)]
    image = first + along[..., None] * (last - first)
    distance = np.hypot(x - rng.uniform(0, 1), y - rng.uniform(-0.1, 0.8))
    lit = rng.uniform(0, 0.9) * np.exp(-distance / rng.uniform(0.08, 0.6))
    return (image + lit[..., None] * (glow - image)).astype(np.float32)


def _bokeh(rng, colors, width, height):
    """A scene out of focus, with discs of light, behind some sharp shapes."""
    image = cv2.GaussianBlur(_leaves(rng, colors, width, height), (0, 0), rng.uniform(6, 22) * width / 512)
    radius, count = rng.uniform(0.01, 0.05) * width, int(rng.integers(0, 40))
    for _ in range(count):
        light = np.zeros((height, width), np.uint8)
        centre = rng.uniform(0, 1, 2) * (width, height) * 16
        cv2.circle(light, tuple(int(c) for c in centre), int(16 * radius * rng.uniform(0.7, 1.1)), 255, -1,
                   cv2.LINE_AA, 4)
        glow = (colors[rng.integers(8)] + 0.1) * rng.uniform(0.3, 1.2)
        image += (light * np.float32(1 / 255))[..., None] * glow
    front = _leaves(rng, colors, width, height)
    mask = (_shapes(rng, width, height, 22, 0.2 * width, 0.04 * width) > 12).astype(np.float32)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.7)[..., None]
    return image + mask * (front - image)


def _develop(rng, image):
    """What lens, sensor and file do to light: vignette, blur, exposure, tone, grain, JPEG."""
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
        image = image * (1 - rng.uniform(0, 0.35) * (x * x + y * y) / 2).astype(np.float32)[..., None]
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.35, 0.9))
    exposure = np.exp(rng.normal(np.log(0.2), 0.65)) / max(float(np.mean(image)), 0.02)
    light = np.clip(1 - np.exp(-1.35 * exposure * image), 0, 1)  # highlights are pressed together, as on film
    light = light ** np.float32(1 / 2.2)
    grain = rng.exponential(0.006)
    if grain > 0.002:
        speck = noise.crop("leaves", height, width, rng.uniform(0, noise.SIDE, 2))
        light = light + np.float32(grain) * (1.2 - light) * (
            0.6 * speck[..., None] + rng.standard_normal(light.shape, np.float32))
    picture = np.clip(light * 255 + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        quality = int(rng.integers(60, 96))
        coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        picture = cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]
    return np.ascontiguousarray(picture)
