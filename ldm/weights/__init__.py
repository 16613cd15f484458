"""Weights in files: our own format, foreign ones without running their code, a strict loader; no Jittor."""
from ldm.weights.files import convert, fill, load, read_state, save, summary

__all__ = ["convert", "fill", "load", "read_state", "save", "summary"]
