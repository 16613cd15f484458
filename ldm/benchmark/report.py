"""Reports: plain values that tools/benchmark.py prints as JSON or as Markdown.

A report is {"machine": describe(), "tables": [{"title": text, "rows": [{column: number or text}]}]}.
"""
from __future__ import annotations

import os
import platform
from typing import Any

from ldm.platform import processor


def describe() -> dict[str, Any]:
    """The machine. `load` is that of the last minute; a high one explains noise in the numbers."""
    return {"cpu": processor.name(), "cores": len(os.sched_getaffinity(0)),
            "load": round(os.getloadavg()[0], 2),
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
