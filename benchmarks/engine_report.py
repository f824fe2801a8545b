"""What the rows of engine.py say: ratios, bars, the table and the plot.

Draw and print stored rows again:

    python benchmarks/engine_report.py benchmarks/results/engine.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OURS = "ours, full resolution"
GRID = "ours, output grid"
REAL = "wsi-segment, gland-mini"
RIVAL = "tiatoolbox"
# A slide so small that start-up is nearly all of the time.
START_SIDE = 1024
Row = dict[str, Any]
_APART = "pixels/s, start-up apart,"


def ratios(rows: list[Row]) -> list[Row]:
    """Compare each way of ours with TIAToolbox on the same slide: speed and memory as shares."""
    rivals = {row["side"]: row for row in rows if row["who"] == RIVAL and _finished(row)}
    return [
        {
            "who": row["who"],
            "side": row["side"],
            "speed": round(rivals[row["side"]]["seconds"] / row["seconds"], 2),
            "memory": round(row["peak_mb"] / rivals[row["side"]]["peak_mb"], 3),
        }
        for row in rows
        if _finished(row) and row["side"] in rivals and row["who"].startswith(("ours", REAL))
    ]


def bars(rows: list[Row]) -> list[Row]:
    """Hold the ratios against the bars of the design: what, where, value, bar, and whether met."""
    found = []
    for one in ratios(rows):
        who, side = one["who"], one["side"]
        if who == REAL or (who == OURS and side <= START_SIDE):
            found.append(_bar(f"start-up: time of {who}", side, round(1 / one["speed"], 3), 0.25))
        elif who == OURS:
            found.append(_bar(f"pixels/s of {who}", side, one["speed"], 10, least=True))
            found.append(_bar(f"peak memory of {who}", side, one["memory"], 0.2))
        elif who == GRID and side > START_SIDE:
            found.append(_bar(f"pixels/s of {who}", side, one["speed"], 30, least=True))
    for who, least in ((OURS, 10), (GRID, 30)):
        for side, value in beyond_start(rows, who).items():
            found.append(_bar(f"{_APART} of {who}", side, value, least, least=True))
    return found


def beyond_start(rows: list[Row], who: str) -> dict[int, float]:
    """Compare what a slide takes beyond the smallest one: TIAToolbox's seconds for one of ours."""
    seconds = {(row["who"], row["side"]): row["seconds"] for row in rows if _finished(row)}
    starts = [seconds.get((name, START_SIDE)) for name in (RIVAL, who)]
    found = {}
    for side in sorted({side for _, side in seconds} - {START_SIDE}):
        times = [seconds.get((name, side)) for name in (RIVAL, who)]
        if None not in (*starts, *times):
            theirs, ours = (time - start for time, start in zip(times, starts, strict=True))
            found[side] = round(theirs / ours, 2)
    return found


def _bar(what: str, side: int, value: float, bar: float, least: bool = False) -> Row:
    met = value >= bar if least else value <= bar
    limit = f"{'>=' if least else '<='} {bar:g} x TIAToolbox"
    return {"what": what, "side": side, "value": value, "bar": limit, "met": met}


def _finished(row: Row) -> bool:
    return bool(row["fate"] == "finished")


def table(report: Row) -> str:
    """Lay rows, ratios and bars out as Markdown."""
    against = {(one["who"], one["side"]): one for one in ratios(report["rows"])}
    lines = [
        "| slide | who | s | Mpx/s | CPU s | peak MB | equal | load | speed / TIA | memory / TIA |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(row, against.get((row["who"], row["side"]), {})) for row in report["rows"]]
    lines += ["", "| bar | slide | value | wanted | |", "|---|---|---|---|---|"]
    lines += [
        f"| {one['what']} | {one['side']}² | {one['value']:.3g} | {one['bar']} "
        f"| {'met' if one['met'] else '**missed**'} |"
        for one in report["bars"]
    ]
    return "\n".join(lines)


def _line(row: Row, ratio: Row) -> str:
    if not _finished(row):
        reason = " ".join(row["error"].split()).replace("|", "/")[-120:]
        return f"| {row['side']}² | {row['who']} | {row['fate']}: {reason} |" + " |" * 7
    same = "" if row.get("agreement") is None else f"{100 * row['agreement']:.3f} %"
    speed = f"{ratio['speed']:.1f} | {ratio['memory']:.2f}" if ratio else " | "
    return (
        f"| {row['side']}² | {row['who']} | {row['seconds']:.1f} | {row['mpx_per_s']:.2f} "
        f"| {row['cpu_seconds']:.1f} | {row['peak_mb']} | {same} | {row['load_before']} | {speed} |"
    )


def plot(report: Row, path: Path) -> None:
    """Draw seconds and peak memory against the slide's area, one line for each of the field."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    names = [who for who in dict.fromkeys(row["who"] for row in report["rows"]) if who != REAL]
    for who in names:
        rows = [row for row in report["rows"] if row["who"] == who and _finished(row)]
        area = [row["side"] ** 2 / 1e6 for row in rows]
        style = "o-" if who.startswith("ours") else "s--"
        for axis, field in zip(axes, ("seconds", "peak_mb"), strict=True):
            axis.plot(area, [row[field] for row in rows], style, label=who, markersize=4)
    for axis, title in zip(axes, ("wall time, s", "peak memory, MB"), strict=True):
        axis.set(xscale="log", yscale="log", title=title, xlabel="slide, megapixels")
        axis.grid(alpha=0.3)
    hardware = report["hardware"]
    figure.suptitle(f"{hardware['cpu']}, {hardware['cores']} cores", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    # No version or date in the file: the same rows give the same bytes.
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    stored = json.loads(source.read_text(encoding="utf-8"))
    plot(stored, source.with_suffix(".png"))
    print(table(stored))
