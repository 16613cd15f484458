"""Weights in files: our own format, readers of foreign files that run no code, a strict loader. No Jittor in here."""
from ldm.weights.files import convert, load, read_state, save, summary

__all__ = ["convert", "load", "read_state", "save", "summary"]
