"""A slide to its files beside the network alone, in one process on one device.

The slide is painted: 16384 x 16384 px at 0.25 um, all of it analysed, so that the number of tiles
does not depend on what tissue there is. Random weights answer with millions of specks (28,000 a
tile), whose polygons would take minutes: only a trained network is asked for them.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import model_forward
import numpy as np
import torch
from cuda_parts import Job, command

from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.zoo import load_model
from wsi_sampath.synthetic.painted import paint_slide

MPP = 0.25
SIDE, SMALL_SIDE = 16384, 512
NO_POLYGONS: dict[str, Any] = {"polygons": False}
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "sam-path": {
        "without polygons": NO_POLYGONS,
        "without polygons, 16 readers": {**NO_POLYGONS, "workers": 16},
    },
    "gland-mini": {"default": {}, "16 readers": {"workers": 16}, "without polygons": NO_POLYGONS},
}
SAMPLE_S = 0.05
BATCHES = 12
KEPT = (
    "reader",
    "precision",
    "tiles_per_s",
    "mm2_per_s",
    "seconds",
    "decoded_px",
    "needed_px",
    "polygons",
    "peak_memory_mb",
    "gpu_memory_mb",
)


def measure_slide(job: Job, name: str) -> None:
    """Write a row for the network alone, for every way of a run, and for the whole command."""
    slide = painted_slide(job)
    source = model_source(job, name)
    model = load_model(source, allow_random_weights=True)
    tile = model.spec.tile
    alone = network_alone(job, model, tile)
    job.write({"model": name, "what": "network alone", **alone})
    for number, (what, values) in enumerate(WAYS[name].items()):
        settings = SegmentSettings.build({"tissue": "none", "device": job.device, **values})
        out = job.scratch / f"{name}-{number}.zarr"
        row = one_run(slide, out, model, settings)
        share = round(row["tiles_per_s"] / alone["tiles_per_s"], 3)
        job.write({"model": name, "what": what, "of_network_alone": share, **row})
    job.write({"model": name, "what": "wsi-segment", **whole_command(job, slide, source)})


def painted_slide(job: Job) -> Path:
    """Return the slide; the first part that asks for it paints it."""
    side = SMALL_SIDE if job.smoke else SIDE
    path = job.scratch / f"painted-{side}.svs"
    if not path.exists():
        growing = path.with_name(f"growing-{path.name}")
        paint_slide(growing, width=side, height=side, mpp=MPP, seed=1, pieces=3)
        growing.rename(path)
    return path


def model_source(job: Job, name: str) -> str:
    """Return the bundled name, or the file of a SAM-Path that looks at the slide's own pixels."""
    if name == "gland-mini" and not job.smoke:
        return name
    path = job.scratch / f"{name}.yaml"
    model_forward.specification(name, "tiny" if job.smoke else "vit_b").to_yaml(path)
    return str(path)


def network_alone(job: Job, model: LoadedModel, tile: int) -> dict[str, Any]:
    """Time batches of tiles that are on the device already, as a run predicts them."""
    output = tile // model.spec.output_stride
    predictor = Predictor(model, tile_px=tile, output_px=output, device=job.device)
    shape = (predictor.batch_size, tile, tile, 3)
    images = predictor.upload(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    seconds = []
    for _ in range(2 if job.smoke else BATCHES):
        began = time.perf_counter()
        predictor.predict(images)
        _synchronise(predictor.device)
        seconds.append(time.perf_counter() - began)
    middle = statistics.median(seconds[1:])
    return {
        "precision": predictor.precision,
        "batch": predictor.batch_size,
        "first_batch_s": round(seconds[0], 3),
        "tiles_per_s": round(predictor.batch_size / middle, 3),
    }


def one_run(
    slide: Path, out: Path, model: LoadedModel, settings: SegmentSettings
) -> dict[str, Any]:
    """Take the slide to its files with a loaded model; return what the run says of itself."""
    with utilisation(settings.device) as samples:
        made = segment_slide(slide, out, settings=settings, model=model).attributes
    network, total = made["seconds"]["network"], made["seconds"]["total"]
    on_gpu = settings.device == "cuda"
    return {
        "tiles": made["tiles"]["analysed"],
        "failed_tiles": made["tiles"]["failed"],
        **{name: made[name] for name in KEPT},
        # By events around the forward passes: gaps between their kernels count as busy.
        "gpu_busy_by_events": round(network / total, 3) if on_gpu else None,
        # By the driver's own sampling, which is coarse.
        "gpu_busy_by_nvml": round(statistics.mean(samples) / 100, 3) if samples else None,
    }


@contextmanager
def utilisation(device: str) -> Iterator[list[int]]:
    """Sample how busy the GPU is, in percent; no samples where the driver does not tell."""
    samples: list[int] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            try:
                samples.append(torch.cuda.utilization())
            except Exception:  # noqa: BLE001 - the driver's library has errors of its own
                return

    thread = threading.Thread(target=sample, daemon=True)
    if device == "cuda":
        thread.start()
    yield samples
    over.set()
    if device == "cuda":
        thread.join()


def whole_command(job: Job, slide: Path, source: str) -> dict[str, Any]:
    """Time the command as it is typed, from its start in a fresh process to its last file."""
    out = job.scratch / f"{Path(source).stem}-command.zarr"
    words = ["--out", str(out), "--model", source, "--tissue", "none"]
    if source.endswith(".yaml"):
        words += ["--allow-random-weights", "--no-geojson"]
    began = time.perf_counter()
    command(job, "segment", str(slide), *words, "--device", job.device)
    return {"seconds": round(time.perf_counter() - began, 2)}


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
