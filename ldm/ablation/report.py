"""The report of a study: a table beside the paper's, as Markdown and as one HTML file."""
from __future__ import annotations

import base64
import html
import io
from string import Template
from typing import Any, Sequence

from PIL import Image

# Tables 1 and 2 of the paper; the plain diffusion model is in both.
PAPER = {"dm": {"M": 91.01, "A": 49.12, "FID": 35.41, "S": 27.90, "T": 55.79},
         "i2i": {"M": 93.76, "A": 49.61, "FID": 32.98, "S": 62.68, "T": 63.60},
         "refinement": {"M": 94.57, "A": 50.43, "FID": 30.63, "S": 49.24, "T": 63.51},
         "color_transfer": {"M": 94.11, "A": 49.78, "FID": 31.38, "S": 66.03, "T": 65.09},
         "ensemble": {"M": 94.15, "A": 50.43, "FID": 30.75, "S": 63.76, "T": 65.27},
         "iidm": {"M": 94.15, "A": 50.43, "FID": 30.75, "S": 63.76, "T": 65.27},
         "sean": {"M": 76.03, "A": 47.72, "FID": 75.36, "S": 68.38, "T": 35.82},
         "scgan": {"M": 87.74, "A": 49.14, "FID": 56.13, "S": 30.66, "T": 45.06},
         "gaugan": {"M": 89.54, "A": 49.59, "FID": 43.39, "S": 54.42, "T": 54.96},
         "clade": {"M": 92.09, "A": 50.98, "FID": 40.63, "S": 48.14, "T": 57.18}}
COLUMNS = ("M", "A", "FID", "FD-seg", "S", "own", "T", "seconds", "million parameters")

PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>$title</title>
<style>
body {font: 15px/1.5 sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #222}
table {border-collapse: collapse}
td, th {padding: .25em .7em; border-bottom: 1px solid #ddd; text-align: right}
th:first-child, td:first-child {text-align: left} .paper {color: #888}
.pictures td, .pictures th {padding: 2px; border: 0; text-align: center; font-weight: normal}
pre {background: #f6f6f6; padding: 1em; overflow-x: auto} svg {margin: 0 1em 1em 0}
</style>
<h1>$title</h1>
<p>$intro</p>
$table
<h2>By row</h2>
$plots
<h2>Pictures</h2>
$pictures
<h2>Settings and hashes</h2>
<pre>$settings</pre>
</html>
""")


def cells(rows: Sequence[dict]) -> tuple[list[str], list[list[str]]]:
    """(headings, cells of each row): our numbers, each beside the paper's if the paper has one.

    rows: dicts of "name", "title" and "numbers", {metric: {"value": ...}} as evaluation.runner returns them.
    """
    shown = [c for c in COLUMNS if any(c in row["numbers"] for row in rows)]
    headings = [""] + [h for c in shown for h in ((c, f"{c}, paper") if c in PAPER["dm"] else (c,))]
    body = []
    for row in rows:
        paper = PAPER.get(row["name"], {})
        line = [row["title"]]
        for c in shown:
            value = row["numbers"].get(c, {}).get("value")
            line.append("n/a" if value is None else f"{value:.2f}")
            if c in PAPER["dm"]:
                line.append(f"{paper[c]:.2f}" if paper else "")
        body.append(line)
    return headings, body


def markdown(rows: Sequence[dict]) -> str:
    """The table as Markdown. rows: see `cells`."""
    headings, body = cells(rows)
    lines = [headings, ["---"] * len(headings), *body]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def notes(rows: Sequence[dict]) -> list[str]:
    """A line for each number of the last row: metric, variant, hash of the weights; the reason, if it is
    n/a."""
    lines = []
    for name, entry in rows[-1]["numbers"].items():
        weights = f"weights sha256 {entry['sha256'][:16]}" if "sha256" in entry else None
        lines.append(f"{name}: " + "; ".join(filter(None, (entry.get("variant"), weights, entry.get("why")))))
    return lines


def _table(rows):
    headings, body = cells(rows)
    kinds = [' class="paper"' if "paper" in h else "" for h in headings]

    def line(tag, texts):
        cell = "".join(f"<{tag}{kind}>{html.escape(text)}</{tag}>" for kind, text in zip(kinds, texts))
        return f"<tr>{cell}</tr>\n"

    return "<table>\n" + line("th", headings) + "".join(line("td", texts) for texts in body) + "</table>"


def plot(rows: Sequence[dict], metric: str, width: int = 340, bar: int = 22) -> str:
    """An SVG picture of one metric: a bar for each row, a mark for the paper's value. "" if no row has it.

    width: pixels of the longest bar with its number. bar: pixels from bar to bar."""
    values = [(row["title"], row["numbers"].get(metric, {}).get("value"),
               PAPER.get(row["name"], {}).get(metric)) for row in rows]
    known = [abs(v) for _, *pair in values for v in pair if v is not None]
    if all(value is None for _, value, _ in values):
        return ""
    left, scale = 170, (width - 60) / max(known + [1e-9])
    parts = [f'<text x="0" y="14" font-weight="bold">{metric}</text>']
    for i, (title, value, paper) in enumerate(values):
        y = 24 + i * bar
        parts.append(f'<text x="0" y="{y + 14}">{html.escape(title)}</text>')
        if value is not None:
            length = max(value, 0) * scale
            parts.append(f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="{bar - 6}" fill="#4a8"/>'
                         f'<text x="{left + length + 5:.1f}" y="{y + 14}">{value:.1f}</text>')
        if paper is not None:
            parts.append(f'<rect x="{left + paper * scale:.1f}" y="{y}" width="2" height="{bar - 2}" '
                         f'fill="#c33"/>')
    return (f'<svg width="{left + width}" height="{30 + len(rows) * bar}" font-size="12" '
            f'font-family="sans-serif">{"".join(parts)}</svg>')


def _picture(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=90)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{data}" alt="">'


def page(title: str, intro: str, rows: Sequence[dict], headings: Sequence[str],
         pictures: Sequence[Sequence[Any]], settings: str) -> str:
    """The report as HTML. pictures: rows of H x W x 3 uint8 arrays under `headings`. settings: text."""
    plots = [plot(rows, metric) for metric in ("T", "M", "FID", "FD-seg", "S")]
    if not plots[0]:
        plots.insert(0, "<p>T is n/a: " + html.escape(rows[-1]["numbers"]["T"].get("why", "")) + "</p>")
    lines = ["<tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in headings) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{_picture(p)}</td>" for p in line) + "</tr>" for line in pictures]
    return PAGE.substitute(
        title=html.escape(title), intro=html.escape(intro), table=_table(rows),
        plots="\n".join(plots) + "<p>Bars: measured here. Red marks: the paper's, on other data.</p>",
        pictures='<table class="pictures">' + "\n".join(lines) + "</table>",
        settings=html.escape("\n".join(notes(rows)) + "\n\n" + settings))
