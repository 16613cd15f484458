"""The processor's name, as reports and records have it."""
from __future__ import annotations

import platform
from pathlib import Path


def name() -> str:
    """By Linux' /proc/cpuinfo; elsewhere by what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
