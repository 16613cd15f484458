"""Reports: plain values that tools/benchmark.py prints as JSON or as Markdown.

A report is {"machine": describe(), "tables": [{"title": text, "rows": [{column: number or text}]}]}.
"""
from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """The machine. `load` is that of the last minute; a high one explains noise in the numbers."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines()
                 if line.startswith("model name")]
        model = names[0] if names else model
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 2),
            "threads": int(os.environ.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0)),
            "python": platform.python_version()}


def cell(value: Any) -> str:
    """A value for a table: four significant digits, "" for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown: a line on the machine, then its tables."""
    lines = [", ".join(f"{name} {value}" for name, value in report["machine"].items())]
    for table in report["tables"]:
        columns = list(table["rows"][0])
        lines += ["", f"**{table['title']}**", "",
                  "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(cell(row.get(c)) for c in columns) + " |" for row in table["rows"]]
    return "\n".join(lines)
