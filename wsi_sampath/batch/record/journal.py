"""What became of every slide, written by several processes at once without a server or a lock.

Each process appends to a file of its own; all read everyone's. A line that a kill cut off has no
line end and is never read; one that a power loss tore is passed over and counted. Their slides are
simply found again.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_sampath.shown import json_line

if TYPE_CHECKING:
    from wsi_sampath.batch.record.outcome import Outcome

_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "float": (int, float),
    "int": int,
    "bool": bool,
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
    "dict[str, float]": dict,
}
# Year 3000: what lies past it no calendar of ours writes.
_LATEST = 3.2e10
_MOST_WORDS = 2000
_MEASURES = ("blurred", "pen", "tissue_beside_pen", "saturation", "clipped")


@dataclass(frozen=True)
class Record:
    """What the batch folder remembers of a slide; every field is a JSON value.

    Attributes
    ----------
    zarr
        Path below the output folder, with ``/``: the slide's name within the batch.
    status
        ``done``, ``failed``, or ``interrupted`` where the user stopped it.
    key
        Hash of slide file, settings and model: a failure counts for an equal key only.
    time
        Seconds since the epoch.
    warnings
        What the result itself warns of, such as random weights or a doubtful scale.
    blurred, pen, tissue_beside_pen, saturation, clipped
        Of the slide's `Quality`; None where they could not be judged, or were not looked at.
    doubts
        What of its quality is doubtful, in a few words.
    refused
        As `Outcome` has it.
    """

    slide: str
    zarr: str
    status: str
    key: str
    time: float
    host: str
    reason: str = ""
    message: str = ""
    seconds: float = 0.0
    tiles_analysed: int = 0
    tiles_skipped: int = 0
    tiles_failed: int = 0
    tiles_per_s: float = 0.0
    polygons: int | None = None
    mpp_x: float | None = None
    mpp_y: float | None = None
    reader: str = ""
    model: str = ""
    device: str = ""
    tissue_mm2: float = 0.0
    analysed_mm2: float = 0.0
    blurred: float | None = None
    pen: float | None = None
    tissue_beside_pen: float | None = None
    saturation: float | None = None
    clipped: float | None = None
    doubts: str = ""
    warnings: str = ""
    area_mm2: dict[str, float] = field(default_factory=dict)
    nuclei: dict[str, int] = field(default_factory=dict)
    has_report: bool = False
    refused: bool = False

    @property
    def has_ended(self) -> bool:
        """True where there is nothing to do but, perhaps, to try again."""
        return self.status in ("done", "failed")

    @classmethod
    def of(cls, outcome: Outcome, zarr: str, key: str) -> Record:
        """Record an outcome."""
        made = outcome.result
        return cls(
            slide=str(outcome.job.slide),
            zarr=zarr,
            status="done" if outcome.done else "interrupted" if outcome.stopped else "failed",
            key=key,
            time=time.time(),
            host=socket.gethostname(),
            reason=outcome.reason,
            message=outcome.message,
            refused=outcome.refused,
            has_report=made is not None and made.report is not None,
            **(_numbers(made.attributes) if made else {"seconds": round(outcome.seconds, 3)}),
        )

    @classmethod
    def from_json(cls, values: Any) -> Record:
        """Read what `as_json` wrote; fields of other versions are left out.

        Raises
        ------
        ValueError
            Where it is not such a record: a power loss left something else.
        """
        if not isinstance(values, dict):
            raise ValueError("not an object")
        known = {one.name: values[one.name] for one in fields(cls) if one.name in values}
        missing = [one.name for one in _NEEDED if one.name not in known]
        wrong = [one.name for one in fields(cls) if one.name in known and not _fits(known, one)]
        if missing or wrong or not 0 <= known["time"] < _LATEST:
            raise ValueError(f"wrong fields: {', '.join([*missing, *wrong]) or 'time'}")
        return cls(**known)

    def as_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)


def journal_folder(out: Path) -> Path:
    """Return where the journal of an output folder lies."""
    return out / ".wsi_sampath" / "journal"


def thumbnail_of(out: Path, name: str) -> Path:
    """Return where the picture of a slide of a batch lies, by its name within the batch."""
    return out / ".wsi_sampath" / "thumbnails" / f"{name}.jpg"


class Journal:
    """The records of a batch folder.

    Parameters
    ----------
    folder
        Where the processes' files lie; made when the first record is written.

    Attributes
    ----------
    refusals
        The newest record of every slide that was refused, of those read so far.
    torn
        Files of which something could not be read so far, with the number of such lines.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._own = folder / name
        self._read_up_to: dict[Path, int] = {}
        self._latest: dict[str, Record] = {}
        self._is_cut = False
        self.refusals: dict[str, Record] = {}
        self.torn: dict[Path, int] = {}

    def add(self, record: Record) -> None:
        """Append a record; it survives a kill of this process once this returns."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # After a write that a full disk cut short, a line of its own.
        line = ("\n" if self._is_cut else "") + json_line(record.as_json()) + "\n"
        self._is_cut = True
        with self._own.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self._is_cut = False

    def latest(self) -> Mapping[str, Record]:
        """Return the newest record of every slide, by its zarr's path; reads only what is new.

        A refusal changes nothing of a slide: it is returned where nothing else is known alone.
        """
        for path in sorted(self._folder.glob("*.jsonl")):
            for record in self._news(path):
                _put_newer(self._latest, record)
                if record.refused:
                    _put_newer(self.refusals, record)
        return self._latest

    def _news(self, path: Path) -> Iterator[Record]:
        start = self._read_up_to.get(path, 0)
        try:
            if path.stat().st_size <= start:
                return
            with path.open("rb") as stream:
                stream.seek(start)
                data = stream.read()
        except OSError:
            self.torn.setdefault(path, 1)
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._read_up_to[path] = start + len(whole)
        for line in filter(None, whole.splitlines()):
            try:
                yield Record.from_json(json.loads(line))
            except (ValueError, RecursionError):
                self.torn[path] = self.torn.get(path, 0) + 1


def _put_newer(records: dict[str, Record], record: Record) -> None:
    known = records.get(record.zarr)
    if known is None or (not record.refused, record.time) >= (not known.refused, known.time):
        records[record.zarr] = record


_NEEDED = [
    one for one in fields(Record) if one.default is MISSING and one.default_factory is MISSING
]


def _fits(values: dict[str, Any], one: Any) -> bool:
    value = values[one.name]
    if isinstance(value, bool) and one.type != "bool":
        return False
    if isinstance(value, dict):
        numbers = value.values()
        return one.type.startswith("dict") and all(map(_is_number, numbers))
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, _TYPES[one.type])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _numbers(run: dict[str, Any]) -> dict[str, Any]:
    tiles, coverage = run["tiles"], run["coverage"]
    # Results of earlier versions have none.
    quality = run.get("quality") or {}
    return {
        **{name: quality.get(name) for name in _MEASURES},
        "doubts": "; ".join(quality.get("doubts", ()))[:_MOST_WORDS],
        "seconds": run["seconds"]["total"],
        "tiles_analysed": tiles["analysed"],
        "tiles_skipped": tiles["skipped"],
        "tiles_failed": tiles["failed"],
        "tiles_per_s": run["tiles_per_s"],
        "polygons": run["polygons"],
        "mpp_x": run["mpp"]["x"],
        "mpp_y": run["mpp"]["y"],
        "reader": run["reader"],
        "model": run["model"]["name"],
        "device": run["device"],
        "tissue_mm2": coverage["tissue_mm2"],
        "analysed_mm2": coverage["analysed_mm2"],
        "warnings": "; ".join(run["warnings"])[:_MOST_WORDS],
        "area_mm2": run["area_mm2"],
        "nuclei": run.get("nuclei") or {},
    }
