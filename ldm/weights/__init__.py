"""Weights in files: our own format, foreign ones without running their code, a strict loader; no Jittor."""
from ldm.weights.files import check, convert, fill, load, opened, read_state, save, summary

__all__ = ["check", "convert", "fill", "load", "opened", "read_state", "save", "summary"]
