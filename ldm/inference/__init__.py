"""From mask and style reference to landscape. Only `pipeline` and `refinement` need Jittor."""
from typing import Any

from ldm.inference.color_transfer import color_transfer

__all__ = ["Pipeline", "color_transfer"]


def __getattr__(name: str) -> Any:
    if name == "Pipeline":                  # on demand, so that colour transfer alone does not load Jittor
        from ldm.inference.pipeline import Pipeline
        return Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
