"""Palettes: the light, the air and the materials of a scene, which decide its colours whatever it shows."""
from __future__ import annotations

import dataclasses

import numpy as np

FIELDS = ("zenith", "horizon", "glow", "cloud", "shade", "haze", "light",
          "ambient", "foliage", "bloom", "grass", "crop", "earth", "rock",
          "sand", "water", "wall", "roof", "dark", "middle", "bright")

# name -> (colours in the order of FIELDS; the sun's height over the horizon in picture heights, the density
# of the haze, snow 0..1, stars or not, the only kind of clouds or "" for any).
# `dark`, `middle` and `bright` are the tones that the finished picture is drawn towards.
TABLE = {
    "dawn": ("6f86b8 f4c1b0 ffd9a8 f7cfc4 9a8fb5 c9b3c4 ffc9a0 "
             "6a6a9a 5a6a62 b98a90 7f8a6c b5a07c 7c6468 7d7488 "
             "d8b4a4 7f92b4 d9b8b0 8c5a66 2c2a48 a08aa2 ffe6d2",
             0.06, 1.5, 0.3, 0, ""),
    "mist": ("c6d0d4 e6e6de fff4d8 f2f2ec b9c2c4 dcdfda e8e2cf "
             "a9b4b4 54746a 84987c 86a074 b8b286 847862 7c8688 "
             "cfc9b6 a8b8ba d6d4c8 8d7c74 4c5a5c b4beb8 f6f5ee",
             0.25, 2.7, 0.1, 0, ""),
    "noon": ("2f7fd6 a9d6f2 fffbe0 ffffff a8bccd b4d4ea fff6dc "
             "6a86a8 2f7a34 5fae3c 6cb43f c9bf4c 9a6c42 8c8a84 "
             "ecd9a0 2678b4 efe6d4 b8503c 10283c 5a9a8c f8fbf0",
             0.42, 0.9, 0.25, 0, ""),
    "golden": ("7fa0b8 f8d48a fff0b0 ffe2a0 b08a68 ecc88c ffcf78 "
               "7a6450 6e6c28 a08a30 a8922e d8a838 8c5a2c 94704a "
               "e8c078 8a8a68 f0cc90 9c4a28 3a2412 b88a40 fff0b8",
               0.12, 1.4, 0.1, 0, ""),
    "sunset": ("3c4a86 ff8a44 ffd878 ffa868 7a4868 d87a5c ff9c58 "
               "6a4a70 3e3a34 86503c 6a5038 b07a40 664038 70525e "
               "d89868 7a5a78 d08a68 70303a 1e1430 a05c5c ffd48c",
               0.04, 1.3, 0.15, 0, ""),
    "dusk": ("2a3f80 a884bc f0b0c0 9a86b8 46508a 7a74ac a898d0 "
             "4a5490 345066 56587c 466a6c 74708c 5a5270 626890 "
             "a098b0 5068a8 8c84b0 5c4068 182044 686aa4 e0c4e4",
             0.03, 1.4, 0.3, 1, ""),
    "night": ("0c1f48 32669a e8f4ff 5a82ac 1a3a66 30608c c4e4ff "
              "2c4e84 225856 306c68 2c6a64 5a868a 42566c 547498 "
              "98b8c4 205888 7c9cb8 54506c 081c3c 2c6094 c8e4f8",
              0.36, 1.3, 0.25, 1, ""),
    "overcast": ("8e979c c4c8c8 d0d2d0 c2c6c8 7c868c b4babc b8bcb8 "
                 "7a868c 3c5c42 627c50 66844e a8a05c 745c48 6e7274 "
                 "b0a684 5e7a86 b4aea0 885044 20282a 788888 d6dcdc",
                 0.3, 1.9, 0.2, 0, "closed"),
    "storm": ("3c505c 98a8a0 f0e8b0 8c9c9c 3a4a54 78908c e8e4a4 "
              "4c6068 2c5240 4e7440 64863e a8a450 6a5840 5c686c "
              "b8b084 34606a a8a490 6c4440 142420 587a74 e4e6bc",
              0.2, 1.5, 0.15, 0, "heaped"),
    "autumn": ("6aa0cc dce4e0 fff0c8 fbf4e8 b8b4ac d4ccb8 ffe2b0 "
               "7a6a68 c8561c d8901c b08a34 d0a040 7c4a2a 8a7a6c "
               "d8bc8c 5c7c94 e4d0b0 8c3a24 34180c b4703c fae8c4",
               0.28, 1.2, 0.2, 0, ""),
    "winter": ("8cb4dc dcecf8 fff8ec f4faff a4bcd4 d0e2f2 f8f4f0 "
               "8aa4cc 5c7484 8ca0b0 e4eef8 ccdcec a8b4c4 8494a8 "
               "e0e6ee 7ca4c4 ccd4de 9c8490 28405c a4c0dc fdffff",
               0.2, 1.4, 1.0, 0, ""),
    "spring": ("74b8e8 e4f0f4 fffbe8 ffffff c4d0e0 d8e8ec fff4ec "
               "8ea4b0 7cb050 f0a4bc 88bc5c d4d074 a88464 a0a09c "
               "f0e0c0 74b0c8 f8ece4 d07c74 284c3c 9ccc98 fffaf4",
               0.35, 1.1, 0.3, 0, ""),
    "tropical": ("0c8cd0 8ce4ec fff8d0 ffffff 90c8d8 98dce4 fff4d0 "
                 "4c9cb0 149060 34c070 4cbc50 d0d050 b0784c 7c908c "
                 "fce8b4 08b0b8 fcf4e4 f07850 0a4458 6cb89c fcfff0",
                 0.4, 0.9, 0.0, 0, ""),
    "desert": ("6cb0c8 f4d8b0 fff0cc fbe8d0 c89c7c ecc4a0 ffdcae "
               "8c5c50 7c7848 a88850 b89858 d8a85c b46438 b0603c "
               "ecb878 5c9494 e8b888 9c4c34 481c14 c8804c ffecc8",
               0.22, 1.2, 0.0, 0, ""),
}
NAMES = tuple(TABLE)


@dataclasses.dataclass(frozen=True)
class Palette:
    """Colours are float32 RGB in 0..1, by field name in `colors`; see TABLE for the rest."""
    name: str
    colors: dict
    sun_height: float
    haze_density: float
    snow: float
    stars: int
    clouds: str                                  # a kind of sky.CLOUDS, or "" where any sky may be

    def __getitem__(self, field):
        return self.colors[field]


def make_palette(name: str, rng: np.random.Generator) -> Palette:
    """The palette `name`, its colours a little off those of the table, as no two evenings are the same."""
    text, sun_height, haze, snow, stars, clouds = TABLE[name]
    codes = text.split()
    drift = rng.normal(0, 0.008, 3)              # the same for all colours: the cast of the day
    colors = {field: np.clip(np.array([int(code[i:i + 2], 16) / 255 for i in (0, 2, 4)]) + drift
                             + rng.normal(0, 0.006, 3), 0, 1).astype(np.float32)
              for field, code in zip(FIELDS, codes)}
    return Palette(name, colors, sun_height * rng.uniform(0.8, 1.25), haze * rng.uniform(0.85, 1.2),
                   snow, stars, clouds)


def grade(image: np.ndarray, palette: Palette, strength: float = 0.22) -> np.ndarray:
    """Draw a picture (float32 RGB) towards the palette's three tones by brightness, as films are toned."""
    luma = np.clip(image @ np.array([0.299, 0.587, 0.114], np.float32), 0, 1)
    steps = np.linspace(0, 1, 256)[:, None]
    dark, middle, bright = palette["dark"], palette["middle"], palette["bright"]
    below = dark + (middle - dark) * np.minimum(steps * 2, 1)
    tones = (below + (bright - middle) * np.maximum(steps * 2 - 1, 0)).astype(np.float32)
    return image + strength * (tones[(luma * 255).astype(np.uint8)] - image)
