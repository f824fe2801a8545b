"""A page of all benchmarks: what each measures, how it is run, and where and when it was last.

Run: python benchmarks/overview.py > benchmarks/README.md
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
_COMMAND = r"^(?:Run:)?\s+(python benchmarks/.+?)\s*(?:\n\n|\Z)"
# Results that a command of the package made, or a run of another file, with what they belong to.
OF_ELSEWHERE = {
    "gland_mini": "scores on held-out patients: [its card](../docs/gland-mini.md)",
    "nuclei_mini": "scores on held-out patients: [its card](../docs/nuclei-mini.md)",
    "refine": "rough outlines refined by nuclei-mini: [prompts](../docs/prompts.md)",
}
HEAD = """# Benchmarks

Each prints a table and stores JSON in `results`, with the machine and, since 2026-11-28, the day.
What the figures mean, and which goals are met and missed, stands in
[What it costs](../docs/performance.md) and [Scale](../docs/scale.md). What needs a GPU is one
script, `benchmarks/cuda.sh`, which has not run on one yet. Machines are shared and noisy: compare
rows of one run, not runs. This page is made by `python benchmarks/overview.py`.

| benchmark | measures | run by | last on |
|---|---|---|---|"""


@dataclass(frozen=True)
class Benchmark:
    """A script that stores results: its name, first sentence, command, and where it ran last."""

    name: str
    measures: str
    command: str
    last: str

    def row(self) -> str:
        """Return its row of the table."""
        return (
            f"| [{self.name}.py]({self.name}.py) | {self.measures} | {self.command} | {self.last} |"
        )


def benchmarks() -> list[Benchmark]:
    """Return the scripts that say how they are run, by name."""
    found = []
    for path in sorted(HERE.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        command = re.search(_COMMAND, text, re.DOTALL | re.MULTILINE)
        if command and path.stem not in ("overview", "engine_report"):
            first = text.partition("\n\n")[0].replace("\n", " ").rstrip(".")
            # The first of several is the whole run.
            words = " ".join(command[1].split()).split(" python ")[0]
            found.append(Benchmark(path.stem, first, f"`{words}`", last_run(path.stem)))
    return found


def last_run(name: str) -> str:
    """Say where and when a result was made; a dash where none is stored."""
    file = RESULTS / f"{name}.json"
    if not file.is_file():
        return "-"
    stored: Any = json.loads(file.read_text(encoding="utf-8"))
    # That of the networks holds a run for each machine, by its name.
    machine = ", ".join(stored) if name == "model_forward" else stored.get("hardware")
    if not isinstance(machine, dict):
        return f"[{machine or 'scores, the same on any machine'}](results/{file.name})"
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']:g} GB"
    day = f", {machine['date']}" if "date" in machine else ""
    return f"[{where}](results/{file.name}){day}"


def page() -> str:
    """Return the page, Markdown."""
    rows = [one.row() for one in benchmarks()]
    others = [f"- [{one}.json](results/{one}.json): {text}." for one, text in OF_ELSEWHERE.items()]
    return "\n".join([HEAD, *rows, "", "## Other results", "", *others, ""])


if __name__ == "__main__":
    print(page(), end="")
