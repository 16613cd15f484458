"""For tools that expect this file. The metadata is in pyproject.toml."""
from setuptools import setup

setup()
