"""IIDM on Jittor. Importing this package imports nothing else: the modules that need Jittor load it."""

__version__ = "0.2.0"
