"""The texts of the palette: the group and the Chinese name of each of the contest's classes."""
from __future__ import annotations

from typing import Any, Optional, Sequence

from ldm.labels import COLORS, NAMES

GROUPS = {
    "far": {"sky": "天空", "mountain": "山", "hill": "丘陵"},
    "water": {"water": "水", "sea": "海", "river": "河", "lake": "湖", "waterfall": "瀑布"},
    "ground": {"earth": "泥土", "land": "陆地", "sand": "沙", "rock": "岩石", "grass": "草", "field": "田野",
               "path": "小路", "road": "公路"},
    "plants": {"tree": "树", "plant": "植物"},
    "built": {"building": "建筑", "house": "房屋", "wall": "墙", "fence": "篱笆", "railing": "栏杆",
              "bridge": "桥", "pier": "码头"},
    "moving": {"ship": "轮船", "boat": "小船", "person": "人"},
    "rest": {"other": "其他"},
}


def palette(seen: Optional[Sequence[int]] = None) -> list[dict[str, Any]]:
    """The 29 classes in the palette's order. seen: those that the model saw in training, None: all."""
    return [{"id": NAMES.index(name), "en": name, "zh": chinese, "group": group,
             "color": COLORS[NAMES.index(name)].tolist(),
             "seen": seen is None or NAMES.index(name) in seen}
            for group, names in GROUPS.items() for name, chinese in names.items()]
