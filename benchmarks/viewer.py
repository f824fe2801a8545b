"""How long the viewer makes people wait, and how much memory it holds.

A server process is asked over the loopback, by one client and by four at once:

- ``slide``: tiles of the slide; ``classes`` and ``maps``: tiles of a result; ``outlines``: nuclei
  of a square; ``at``: what is under the mouse; ``field``: areas and counts of what is visible;
- ``cold``: what a fresh server is asked for the first time, view after view at random places and
  levels; ``warm``: the same once more. Files may be in the system's cache either way;
- ``pan``: somebody pans and zooms for a while, and the server's memory is watched.

Slides: CMU-1 where ``WSI_SAMPATH_DATA`` has it, and a painted one of 50,176 x 50,176 px with a
result of a million nuclei (``--inputs FOLDER`` keeps it for the next time).

    python benchmarks/viewer.py
    python benchmarks/viewer.py --times 4 --views 2 --pan-steps 5
    python benchmarks/viewer.py --pan-steps 100000 --pan-seconds 3600
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from measure import hardware, resident
from viewer_inputs import PERIOD, painted_square, write_result, write_slide

RESULTS = Path(__file__).parent / "results"
CMU = ("CMU-1.svs", "CMU-1-Small-Region.svs")
CLIENTS = (1, 4)
VIEW = (4, 3)
"""Tiles that a view is wide and high."""
SQUARE = 2048
STARTS_WITHIN_S, STOPS_WITHIN_S = 300, 120
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Client:
    """One connection that stays open, as a browser has several.

    Attributes
    ----------
    host, cookie
        Where it asks, and what lets it in.
    """

    host: str
    cookie: str = ""
    _line: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self._line = http.client.HTTPConnection(self.host, timeout=STARTS_WITHIN_S)

    def ask(self, path: str) -> bytes:
        """Return an answer's body."""
        self._line.request("GET", path, headers={"Cookie": self.cookie})
        answer = self._line.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")
        return body

    def close(self) -> None:
        """End the connection; the next question opens another."""
        self._line.close()

    def json(self, path: str) -> Any:
        """Return an answer that is JSON."""
        return json.loads(self.ask(path))

    def login(self, token: str) -> None:
        """Exchange the token of the printed link for the cookie."""
        body = json.dumps({"token": token})
        headers = {"Content-Type": "application/json", "Origin": f"http://{self.host}"}
        self._line.request("POST", "/api/login", body, headers)
        answer = self._line.getresponse()
        answer.read()
        self.cookie = answer.headers["Set-Cookie"].partition(";")[0]


@dataclass(frozen=True)
class Server:
    """A server process, and the first client that was let in."""

    pid: int
    client: Client

    def more(self, count: int) -> list[Client]:
        """Return so many clients."""
        return [Client(self.client.host, self.client.cookie) for _ in range(count)]

    def cpu_seconds(self) -> float:
        """Return what all its threads took so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_mb(self) -> float:
        """Return its resident memory in 10^6 bytes."""
        return resident(self.pid) / 1e6


@contextlib.contextmanager
def serving(*shown: Path) -> Iterator[Server]:
    """Start ``wsi-view``, let a client in, and stop it at the end."""
    start = "import sys; from wsi_sampath.cli.view import main; sys.exit(main())"
    words = [sys.executable, "-c", start, *map(str, shown), "--no-browser"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        link = next(
            found[0] for line in process.stdout if (found := re.search(r"http://\S+", line))
        )
        # Nobody reads on; the pipe must not fill up.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        parts = urlsplit(link)
        client = Client(parts.netloc)
        client.login(parts.fragment.removeprefix("token=").partition("&")[0])
        yield Server(process.pid, client)
    finally:
        process.terminate()
        try:
            process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@dataclass(frozen=True)
class Pictures:
    """What one server shows, as it says itself."""

    slide: dict[str, Any]

    @classmethod
    def of(cls, client: Client) -> Pictures:
        """Ask for the only slide."""
        (entry,) = client.json("/api/shelf")["entries"]
        told = cls(client.json(f"/api/slides/{entry['id']}"))
        client.close()
        return told

    @property
    def kinds(self) -> tuple[str, ...]:
        """What can be asked for."""
        results = self.slide["results"]
        return ("slide", *(("classes", "maps", "outlines", "at", "field") if results else ()))

    def paths(self, kind: str, rng: np.random.Generator) -> list[str]:
        """Return what one view at a random place asks for."""
        root = f"/api/slides/{self.slide['id']}"
        if kind == "slide":
            return self._tiles(root + "/tiles", self.slide["levels"], rng, "jpg")
        result = self.slide["results"][0]
        root = f"/api/results/{result['id']}"
        if kind in ("classes", "maps"):
            layer = next(one for one in result["layers"] if one["name"] == kind)
            ending = "png" if kind == "classes" else "png?channel=0"
            return self._tiles(f"{root}/layers/{kind}", layer["levels"], rng, ending)
        size = np.array([self.slide["width"], self.slide["height"]])
        if kind == "outlines":
            column, row = rng.integers(0, -(-size // SQUARE)).tolist()
            return [f"{root}/outlines/{column}_{row}.bin"]
        x, y = rng.uniform(0, size).round(1).tolist()
        if kind == "at":
            near = rng.uniform(0, 200, (6, 2)).round(1).tolist()
            return [f"{root}/at?x={x + right}&y={y + down}" for right, down in near]
        width, height = (np.array([1600, 900]) * 2 ** rng.uniform(0, 5)).round().tolist()
        return [f"{root}/field?x={x}&y={y}&width={width}&height={height}"]

    def _tiles(
        self, root: str, levels: Sequence[dict[str, Any]], rng: np.random.Generator, ending: str
    ) -> list[str]:
        number = int(rng.integers(len(levels)))
        level = levels[number]
        tile = level.get("tile", (256, 256))
        across, down = -(-level["width"] // tile[0]), -(-level["height"] // tile[1])
        wide, high = min(VIEW[0], across), min(VIEW[1], down)
        left, top = rng.integers(0, (across - wide + 1, down - high + 1)).tolist()
        return [
            f"{root}/{number}/{left + column}_{top + row}.{ending}"
            for row in range(high)
            for column in range(wide)
        ]


def ask_all(server: Server, paths: Sequence[Sequence[str]]) -> tuple[list[float], float]:
    """Let one client for each list ask for it; return all seconds, and the server's CPU seconds."""
    seconds: list[list[float]] = [[] for _ in paths]
    failed: list[Exception] = []

    def run(client: Client, wanted: Sequence[str], took: list[float]) -> None:
        try:
            for path in wanted:
                began = time.perf_counter()
                client.ask(path)
                took.append(time.perf_counter() - began)
        except Exception as error:
            failed.append(error)
        finally:
            client.close()

    before = server.cpu_seconds()
    threads = [
        threading.Thread(target=run, args=each)
        for each in zip(server.more(len(paths)), paths, seconds, strict=True)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    if failed:
        raise failed[0]
    return [one for each in seconds for one in each], server.cpu_seconds() - before


def dealt(views: Sequence[Sequence[str]], clients: int) -> list[list[str]]:
    """Give every client its views; nothing is asked for twice, as browsers keep what they have."""
    seen: set[str] = set()
    hands: list[list[str]] = [[] for _ in range(clients)]
    for number, view in enumerate(views):
        hands[number % clients] += [path for path in view if path not in seen]
        seen.update(view)
    return hands


def row_of(seconds: Sequence[float], cpu_seconds: float) -> dict[str, float]:
    """Return what is told of some requests."""
    return {
        "requests": len(seconds),
        "p50 ms": 1e3 * float(np.median(seconds)),
        "p95 ms": 1e3 * float(np.quantile(seconds, 0.95)),
        "server CPU ms": 1e3 * cpu_seconds / len(seconds),
    }


def timed(name: str, shown: Sequence[Path], clients: int, views: int) -> list[dict[str, Any]]:
    """Ask a fresh server for everything, cold and warm."""
    rows = []
    with serving(*shown) as server:
        pictures = Pictures.of(server.client)
        for kind in pictures.kinds:
            rng = np.random.default_rng(clients)
            # The first answer of a kind opens files, which is another matter.
            began = time.perf_counter()
            server.client.ask(pictures.paths(kind, np.random.default_rng(0))[0])
            opened = time.perf_counter() - began
            # The server would not wait for its next question.
            server.client.close()
            asked = [pictures.paths(kind, rng) for _ in range(views)]
            paths = dealt(asked, clients)
            for how in ("cold", "warm"):
                row = {"slide": name, "what": kind, "clients": clients, "caches": how}
                row |= row_of(*ask_all(server, paths))
                rows.append(row | ({"first ms": 1e3 * opened} if how == "cold" else {}))
                print(line_of(rows[-1]), flush=True)
    return rows


def panned(shown: Sequence[Path], steps: int, seconds: float) -> dict[str, Any]:
    """Pan and zoom, and watch the server's memory."""
    with serving(*shown) as server:
        pictures, rng = Pictures.of(server.client), np.random.default_rng(7)
        start, began, held = server.resident_mb(), time.perf_counter(), []
        while len(held) < steps and time.perf_counter() - began < seconds:
            asked = [path for kind in pictures.kinds for path in pictures.paths(kind, rng)]
            ask_all(server, [asked[n :: max(CLIENTS)] for n in range(max(CLIENTS))])
            held.append(server.resident_mb())
    halves = np.array_split(np.array(held), 2)
    return {
        "views": len(held),
        "seconds": time.perf_counter() - began,
        "MB at the start": start,
        "MB at most, first half": float(halves[0].max()),
        "MB at most, second half": float(halves[1].max(initial=0)),
    }


def inputs(folder: Path, times: int) -> list[Path]:
    """Return the painted slide and its result, made where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    slide, result = folder / f"painted-{times}.svs", folder / f"painted-{times}.zarr"
    if not result.exists():
        square = painted_square()
        write_slide(slide, square, times)
        write_result(result, slide, square, times)
    return [slide, result]


def cmu() -> list[Path]:
    """Return CMU-1, the largest part of it that there is; nothing where there is none."""
    folder = os.environ.get("WSI_SAMPATH_DATA")
    found = [] if folder is None else [Path(folder) / "slides" / name for name in CMU]
    return [path for path in found if path.is_file()][:1]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=49, help=f"squares of {PERIOD} px in a row")
    parser.add_argument("--views", type=int, default=40, help="of each kind, all clients together")
    parser.add_argument("--pan-steps", type=int, default=400)
    parser.add_argument("--pan-seconds", type=float, default=600)
    parser.add_argument("--inputs", type=Path, help="folder that keeps the painted slide")
    parser.add_argument("--out", type=Path, default=RESULTS / "viewer.json")
    return parser.parse_args()


def main() -> None:
    """Measure, print a table, and store it."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        painted = inputs(options.inputs or Path(folder), options.times)
        slides = {"CMU-1": cmu(), "painted": painted}
        load = os.getloadavg()[0]
        rows = [
            row
            for name, shown in slides.items()
            for clients in CLIENTS
            if shown
            for row in timed(name, shown, clients, options.views)
        ]
        pan = panned(painted, options.pan_steps, options.pan_seconds)
    print(line_of(pan))
    side = options.times * PERIOD
    stored = {
        "hardware": hardware(),
        "load_before": round(load, 2),
        "slides": {
            "CMU-1": slides["CMU-1"][0].name if slides["CMU-1"] else None,
            "painted": f"{side} x {side} px, {options.times**2 * 441} nuclei",
        },
        "rows": rows,
        "pan": pan,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def line_of(row: dict[str, Any]) -> str:
    """Return a line of the table."""
    return "  ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in row.items()
    )


if __name__ == "__main__":
    main()
