"""What a slide on a server costs beside the same slide on the disk.

A made-up slide (a disc of noise in the colours of tissue, on glass) is segmented by the stub
network, which costs next to nothing, so that reading is most of what is measured. The server is a
process of its own on loopback, whose CPU does not count, and holds every answer back by
``--delay-ms``. Both ways take turns; CPU seconds are medians.

Run: python benchmarks/remote.py [--runs 3] [--side 12288] [--delay-ms 30]
     [--out benchmarks/results/remote.json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from measure import hardware


def serve(path: Path, delay_s: float) -> None:
    """Serve ranges of one file until this process is ended; print the port."""
    size = path.stat().st_size
    file = os.open(path, os.O_RDONLY)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:  # noqa: N802
            """Answer with the range that is asked for."""
            time.sleep(delay_s)
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            start, stop = int(first), min(int(last) + 1, size)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.send_header("Content-Length", str(stop - start))
            self.send_header("ETag", '"one"')
            self.end_headers()
            self.wfile.write(os.pread(file, stop - start, start))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


def disc(side: int) -> Callable[[int, int, int, int], np.ndarray]:
    """Return a function that makes any box of the slide, uint8 (height, width, 3)."""
    random = np.random.default_rng(0)
    grain = np.clip(random.normal((170, 90, 150), 25, (1024, 1024, 3)), 0, 255).astype(np.uint8)

    def box(x: int, y: int, width: int, height: int) -> np.ndarray:
        across, down = np.arange(x, x + width), np.arange(y, y + height)
        pixels = grain[down[:, None] % 1024, across % 1024]
        from_middle = (across - side / 2) ** 2 + ((down - side / 2) ** 2)[:, None]
        pixels[from_middle > (0.35 * side) ** 2] = 243
        return pixels

    return box


def run(slide: str, mpp: float, out: Path) -> dict[str, float]:
    """Segment a slide once; return CPU and wall seconds, and what was fetched."""
    from stub_model import stub_model

    from wsi_sampath.inference.segmenter import segment_slide
    from wsi_sampath.inference.settings import SegmentSettings
    from wsi_sampath.slides.remote.place import RemotePath, located, opened_file

    settings = SegmentSettings(device="cpu", mpp=mpp, workers=2, report=False, force=True)
    started, spent = time.perf_counter(), time.process_time()
    segment_slide(slide, out / "a.zarr", settings=settings, model=stub_model(pool=4, tile=256))
    found = {"cpu_s": time.process_time() - spent, "seconds": time.perf_counter() - started}
    path = located(slide)
    if isinstance(path, RemotePath):
        file = opened_file(path)
        found |= {"requests": file.n_requests, "bytes": file.n_bytes}
    return found


def compare(slide: Path, url: str, mpp: float, runs: int, out: Path) -> dict[str, Any]:
    """Run both ways in turns."""
    here, there = [], []
    for number in range(runs + 1):
        # Another query is another address to us: nothing is held of the run before.
        both = run(str(slide), mpp, out), run(f"{url}?run={mpp}-{number}", mpp, out)
        if number:  # The first imports and compiles.
            here.append(both[0])
            there.append(both[1])
    cpu = [median(one["cpu_s"] for one in found) for found in (here, there)]
    return {
        "mpp": mpp,
        "local_cpu_s": round(cpu[0], 2),
        "remote_cpu_s": round(cpu[1], 2),
        "cpu_ratio": round(median(b["cpu_s"] / a["cpu_s"] for a, b in zip(here, there)), 2),  # noqa: B905
        "local_seconds": round(median(one["seconds"] for one in here), 2),
        "remote_seconds": round(median(one["seconds"] for one in there), 2),
        "requests": there[-1]["requests"],
        "fetched_mb": round(there[-1]["bytes"] / 1e6, 2),
        "of_file": round(there[-1]["bytes"] / slide.stat().st_size, 3),
    }


def main() -> None:
    """Paint, serve, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--side", type=int, default=12288, help="pixels of the slide")
    parser.add_argument("--delay-ms", type=float, default=30.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.delay_ms / 1e3)
        return
    from wsi_sampath.synthetic.svs_writer import write_svs

    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "disc.svs"
        size = {"width": asked.side, "height": asked.side, "mpp": 0.25, "levels": (1, 4, 16)}
        write_svs(slide, disc(asked.side), **size)
        command = [sys.executable, __file__, "--serve", str(slide)]
        command += ["--delay-ms", str(asked.delay_ms)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}/disc.svs"
            try:
                rows = [compare(slide, url, mpp, asked.runs, Path(folder)) for mpp in (0.25, 1, 4)]
            finally:
                server.terminate()
        found = {
            "hardware": hardware(),
            "file_mb": round(slide.stat().st_size / 1e6, 2),
            "side_px": asked.side,
            "delay_ms": asked.delay_ms,
            "runs": asked.runs,
            "by_mpp": rows,
        }
    print(json.dumps(found, indent=1))
    if asked.out is not None:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
