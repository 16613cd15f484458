"""IIDM on Jittor: `from ldm import Pipeline`. Importing this package imports nothing else: the modules that
need Jittor load it."""
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldm.inference.pipeline import Pipeline

__version__ = "0.2.0"
__all__ = ["Pipeline"]


def __getattr__(name: str) -> Any:
    if name == "Pipeline":                  # on demand: it loads Jittor
        from ldm.inference.pipeline import Pipeline
        return Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
