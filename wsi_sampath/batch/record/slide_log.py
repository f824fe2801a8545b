"""``NAME.log`` beside ``NAME.zarr``: what happened to one slide, over all tries."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.masked import masked
from wsi_sampath.progress import Progress, Start
from wsi_sampath.shown import plural, shown


class SlideLog:
    """Append to a slide's log, and pass its progress on.

    Parameters
    ----------
    path
        The log.
    slide
        Name of the slide, which goes before its warnings: those of others come between them.
    onward
        Receives everything too.
    """

    def __init__(self, path: Path, slide: str, onward: Progress) -> None:
        self._path, self._slide = path, slide
        self._onward = onward

    def begin(self, start: Start) -> None:
        """See `Progress`."""
        who = f"process {os.getpid()} on {socket.gethostname()}"
        self.write("; ".join([f"started: {who}", *map(shown, start.lines)]))
        self._onward.begin(start)

    def advance(self, n_tiles: int) -> None:
        """See `Progress`."""
        self._onward.advance(n_tiles)

    def warn(self, message: str) -> None:
        """See `Progress`."""
        self.write(f"warning: {shown(message)}")
        self._onward.warn(f"{self._slide}: {message}")

    def end(self) -> None:
        """See `Progress`."""
        self._onward.end()

    def finish(self, outcome: Outcome) -> None:
        """Log how the slide ended."""
        if outcome.result is None:
            how = "stopped" if outcome.stopped else "refused" if outcome.refused else "failed"
            self.write(f"{how}: {outcome.reason}: {outcome.message}")
        elif not outcome.result.reused:
            run = outcome.result.attributes
            areas = ", ".join(f"{name} {area:.4f} mm2" for name, area in run["area_mm2"].items())
            stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in run["seconds"].items())
            tiles = plural(run["tiles"]["analysed"], "tile")
            self.write(f"done: {tiles}; {areas}; seconds: {stages}")

    def write(self, text: str) -> None:
        """Append a line, or several, with the time (UTC), and without secrets of addresses."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lines = "\n".join(shown(line) for line in masked(text).rstrip().split("\n"))
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(f"{now} {lines}\n")
