"""What covers the ground, pixel by pixel: its label, its colour in light and haze, and the water's mirror."""
import cv2
import numpy as np

from ldm.datasets.procedural import noise
from ldm.datasets.procedural.terrain import LABEL, smoothstep

# label -> (colours of the palette and their shares, strength of the coarse texture, of the fine texture)
MATERIALS = {
    "mountain": ((("rock", 0.85), ("haze", 0.15)), 0.07, 0.04),
    "water": ((("water", 1.0),), 0.0, 0.0), "sea": ((("water", 1.0),), 0.0, 0.0),
    "river": ((("water", 1.0),), 0.0, 0.0), "lake": ((("water", 1.0),), 0.0, 0.0),
    "rock": ((("rock", 1.0),), 0.20, 0.12),
    "tree": ((("foliage", 1.0),), 0.22, 0.16),
    "earth": ((("earth", 1.0),), 0.12, 0.10),
    "hill": ((("grass", 0.55), ("foliage", 0.45)), 0.10, 0.05),
    "sand": ((("sand", 1.0),), 0.04, 0.04),
    "land": ((("earth", 0.40), ("sand", 0.35), ("grass", 0.25)), 0.10, 0.08),
    "grass": ((("grass", 1.0),), 0.08, 0.10),
    "plant": ((("grass", 0.45), ("foliage", 0.55)), 0.14, 0.16),
    "waterfall": ((("cloud", 0.75), ("water", 0.25)), 0.0, 0.0),
    "path": ((("sand", 0.65), ("earth", 0.35)), 0.05, 0.07),
    "field": ((("crop", 1.0),), 0.05, 0.05),
    "road": ((("rock", 0.75), ("dark", 0.25)), 0.03, 0.03),
}
SNOWY = {"mountain": 1.0, "rock": 0.45, "tree": 0.35, "hill": 0.7, "earth": 0.5, "land": 0.7, "plant": 0.5,
         "road": 0.3}                            # how much of the snow that falls stays
WATERS = tuple(LABEL[name] for name in ("water", "sea", "river", "lake"))


def label_ground(surface, view, plan, rng):
    """The label of every pixel of sky, ground and water: height x width uint8."""
    fall = view.nearest / surface.z
    labels = surface.owner.copy()
    soil = np.isin(labels, [LABEL[n] for n in ("grass", "land", "earth", "plant", "sand", "rock", "field")])
    if plan.fields:
        inside = soil & (surface.z > plan.fields[0]) & (surface.z < plan.fields[1])
        labels[inside] = LABEL["field"]
    low = surface.height < 0.3 + 0.01 * surface.z
    beach = (surface.shore < plan.shore[1]) & low & (surface.owner != LABEL["waterfall"])
    labels[beach] = LABEL[plan.shore[0]]
    labels[surface.forest > 0.08] = LABEL["tree"]
    wet = surface.shore < 0
    labels[wet] = surface.water_label[wet]
    for way in plan.ways:
        if way.label != "river":
            aside = np.abs(surface.x - way.centre(view, np.minimum(surface.z, 1e4)))
            on = (aside < way.width / 2) & (fall > way.start) & (surface.z < 150)
            labels[on & ~wet & (surface.forest < 0.08)] = LABEL[way.label]
    labels[surface.sky] = LABEL["sky"]
    return labels


def illuminate(palette, light):
    """RGB factor of a surface under `light` 0..1 of the sun's full strength."""
    return palette["ambient"] * np.float32(0.70) + light * (palette["light"] * np.float32(0.87))


def haze_share(z, palette):
    """Share of the air's colour in what is seen at depth z."""
    distance = np.minimum(z, np.float32(500)) / 260
    return 1 - np.exp(np.float32(-palette.haze_density) * distance ** np.float32(0.8))


class Textures:
    """Noise at the surface's points: coarse (a few metres), fine (near the camera alone), and broad."""

    def __init__(self, surface, rng):
        z = np.minimum(surface.z, 1e4)

        def look(kind, scale, settles):
            """`scale` texels a unit near the camera; beyond depth `settles` texels a pixel stay the same."""
            each = scale / (1 + z / settles)
            u = surface.x * each
            v = 0.6 * scale * settles * np.log1p(z / settles) - 1.1 * surface.height * each
            return noise.sample(kind, u, v, rng.uniform(0, noise.SIDE, 2))

        self.broad = np.tanh(look("smooth", 45, 12) * 0.8)
        self.coarse = look("rough", 95, 6)
        self.fine = look("fine", 420, 3) * np.clip(4 / z, 0, 1).astype(np.float32)


def _table(palette):
    """Colour and strengths of texture by label: 29 x 3, 29, 29, 29 (share of snow)."""
    color = np.zeros((29, 3), np.float32)
    coarse, fine, snow = np.zeros((3, 29), np.float32)
    for name, (mixture, coarse_strength, fine_strength) in MATERIALS.items():
        color[LABEL[name]] = sum(palette[field] * share for field, share in mixture)
        coarse[LABEL[name]], fine[LABEL[name]] = coarse_strength, fine_strength
        snow[LABEL[name]] = SNOWY.get(name, 0)
    return color, coarse, fine, snow


def paint_ground(image, labels, surface, view, palette, glow, plan, rng):
    """Colour all under the sky in `image` (float32 RGB, in place); water gets its own colour only."""
    top = int(np.argmin(surface.sky.all(axis=1)))                 # nothing but sky over this row
    image, labels, surface, glow = image[top:], labels[top:], surface.below(top), glow[top:]
    textures = Textures(surface, rng)
    color, coarse, fine, snowy = _table(palette)
    albedo = np.take(color, labels, axis=0)
    _details(albedo, labels, surface, palette, textures, view)
    texture = 1 + np.take(coarse, labels) * textures.coarse + np.take(fine, labels) * textures.fine
    albedo *= (texture + 0.09 * textures.broad)[..., None]
    high = surface.height / (0.05 * np.minimum(surface.z, 500) + 0.5)
    line = 1.9 - 1.7 * palette.snow
    high = high + 0.35 * textures.coarse + 0.3 * textures.broad
    snow = np.take(snowy, labels) * smoothstep(high, line - 0.3, line + 0.5)
    snow *= min(1.0, palette.snow * 4)
    white = np.minimum(palette["bright"] * 1.02, 1)
    albedo += (snow * 0.85)[..., None] * (white - albedo)
    albedo *= illuminate(palette, np.minimum(surface.light, 1)[..., None])
    haze = haze_share(surface.z, palette)[..., None]
    air = (0.7 * glow)[..., None] * (palette["glow"] - palette["haze"])
    air += palette["haze"]
    air -= albedo
    air *= haze
    albedo += air
    cv2.copyTo(albedo, (labels != LABEL["sky"]).view(np.uint8), image)


def _details(albedo, labels, surface, palette, textures, view):
    """Colours inside a material: blossoms, furrows, crowns of different greens, falling water."""
    trees = labels == LABEL["tree"]
    mix = np.clip(0.5 + 0.45 * textures.broad + 0.2 * textures.coarse, 0, 1) * 0.55
    albedo[trees] += mix[trees][:, None] * (palette["bloom"] - albedo[trees])
    plants = labels == LABEL["plant"]
    flowers = (textures.coarse[plants] > 1.1)[:, None]
    albedo[plants] += 0.7 * flowers * (palette["bloom"] * 1.15 - albedo[plants])
    fields = labels == LABEL["field"]
    if fields.any():
        albedo[fields] = _furrows(surface.x[fields], surface.z[fields], albedo[fields], palette)
    falls = labels == LABEL["waterfall"]
    if falls.any():
        across, down = surface.x[falls][:, None] * 260, surface.height[falls][:, None] * 14
        streaks = noise.sample("rough", across, down, (0, 0))
        albedo[falls] *= 1 + 0.16 * streaks
    cliffs = labels == LABEL["rock"]
    strata = np.sin(surface.height[cliffs] * 9 + textures.broad[cliffs] * 2.5)
    albedo[cliffs] *= (1 + 0.09 * strata * np.clip(20 / surface.z[cliffs], 0, 1) ** 2)[:, None]


def _furrows(x, z, albedo, palette):
    """Parcels of different crops with rows that run one way in each."""
    along, aside = 0.94 * x + 0.34 * z, -0.34 * x + 0.94 * z
    parcel = (np.floor(along / 5.5) * 7 + np.floor(aside / 4.2) * 13).astype(np.int64)
    draw = ((parcel * 2654435761) % 4096) / 4096.0
    turned = np.where(draw > 0.5, along, aside)
    rows = np.sin(turned * 26) * np.clip(7 / z, 0, 1) + 0.6 * np.sin(turned * 5.2) * np.clip(26 / z, 0, 1)
    other = np.where((draw % 0.25 < 0.09)[:, None], palette["earth"],
                     np.where((draw % 0.25 < 0.17)[:, None], palette["grass"], palette["crop"]))
    tone = albedo + 0.75 * (other - albedo)
    return (tone * (0.94 + 0.12 * draw[:, None] + 0.11 * rows[:, None])).astype(np.float32)


def mirror_water(image, labels, surface, depth_drawn, view, palette, rng):
    """Add the reflections: each water pixel shows what stands over its own shore, shaken by ripples.

    `depth_drawn` is the depth of what each pixel shows, things too: what stands before water is no shore."""
    wet = np.isin(labels, WATERS)
    if not wet.any():
        return
    top = max(int(np.argmax(wet.any(axis=1))) - 1, 0)             # the row before the first water
    wet, labels, surface, depth_drawn = wet[top:], labels[top:], surface.below(top), depth_drawn[top:]
    rows = np.arange(top, view.height, dtype=np.float32)[:, None]
    columns = np.broadcast_to(np.arange(view.width, dtype=np.float32)[None], wet.shape)
    z = np.minimum(surface.z, 600)
    bank = np.zeros_like(wet)                    # the last row of what stands behind the water under it
    bank[:-1] = wet[1:] & ~wet[:-1] & (depth_drawn[:-1] > 0.95 * z[1:])
    edge = np.maximum.accumulate(np.where(bank, rows, -1), axis=0)
    offset = rng.uniform(0, noise.SIDE, 2)
    waves = noise.sample("rough", surface.x * 40, z * 160, offset)
    closeness = np.clip(5 / z, 0.05, 1)
    rough = np.full(wet.shape, 0.28, np.float32)
    rough[labels == LABEL["sea"]], rough[labels == LABEL["river"]] = 1.0, 0.6
    depth = rows - edge
    shake = waves * rough * (0.4 + 5 * closeness)
    source = np.clip(2 * edge - rows + 1 - 2.2 * np.abs(shake), 0, None)
    aside = columns + shake * np.minimum(depth * 0.12, 3)
    sky_only = np.clip(2 * view.horizon - rows, 0, None)
    source = np.where(edge < view.horizon - 0.5, sky_only - np.abs(shake) * 3, source).astype(np.float32)
    shown = cv2.remap(image, aside.astype(np.float32), np.clip(source, 0, None), cv2.INTER_LINEAR,
                      borderMode=cv2.BORDER_REPLICATE)
    share = (0.80 - 0.42 * smoothstep(closeness, 0.1, 1.0)) * (1 - 0.30 * rough)
    share = np.clip(share + 0.05 * waves * rough, 0, 0.92)
    body = image[top:] * (1 + 0.10 * rough * waves)[..., None]
    body += (_foam(labels, surface, waves) * 0.75)[..., None] * (palette["cloud"] - body)
    image[top:][wet] = (body + share[..., None] * (shown * 0.97 - body))[wet]


def _foam(labels, surface, waves):
    """White of breaking waves along the shore of the sea, and a few crests farther out."""
    near = -surface.shore
    lines = np.sin(near * 26 + 1.3 * waves) - 0.25 - near * 1.6
    surf = smoothstep(lines, 0.0, 0.4) * (near < 0.7) + smoothstep(-near, -0.05, -0.01)
    return np.where(labels == LABEL["sea"], np.clip(surf, 0, 1), 0).astype(np.float32)
