"""Weight files: our own format, foreign formats without running their code, strict loading; no Jittor."""
from ldm.weights.files import check, convert, fill, load, opened, read_state, save, summary

__all__ = ["check", "convert", "fill", "load", "opened", "read_state", "save", "summary"]
