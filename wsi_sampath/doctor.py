"""What works on this machine: readers and codecs, devices and precisions, the disk, the model."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wsi_sampath.shown import plural

PACKAGES = (
    "wsi-sampath",
    "torch",
    "numpy",
    "zarr",
    "shapely",
    "openslide-python",
    "tiffslide",
    "tifffile",
    "imagecodecs",
)
_OPTIONAL = {
    "lightning": "wsi-train",
    "torchmetrics": "wsi-train",
    "tensorboard": "wsi-train",
    "distributed": "--scheduler",
    "geopandas": "geodataframe()",
    "spatialdata": "to_spatialdata()",
    "starlette": "wsi-view",
    "onnx": "wsi-models export",
    "s3fs": "slides at s3://",
}
_CODECS = ("jpeg", "jpeg2000", "webp", "lzw", "adobe_deflate")
_READERS = ("tiff", "openslide", "tiffslide")
_DRIVER = Path("/proc/driver/nvidia/version")
_ROUNDING = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
_MATRIX = 512
_SPEED_MB, _SMALL_FILES = 64, 200
_SLOW_MB_PER_S, _SLOW_FILES_PER_S, _LITTLE_GB = 20, 50, 5


@dataclass(frozen=True)
class Finding:
    """One line of a check-up: whether it is fine, and what was found or how to mend it."""

    fine: bool
    line: str


def check_machine(out: Path | None = None) -> Iterator[Finding]:
    """Try everything that a run needs, one check at a time.

    Parameters
    ----------
    out
        An output folder, existing or not, whose disk is tried too; nothing is left there.

    Yields
    ------
    Finding
        In the order of the checks; an error within a check is a finding as well.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _packages,
        _openslide,
        _codecs,
        _readers,
        _devices,
        _precisions,
    ]
    if out is not None:
        checks.append(partial(_disk, out))
    for check in [*checks, _models, _self_test]:
        yield from _carried_out(check)


def _carried_out(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - whatever is broken here is what we look for
        name = getattr(check, "func", check).__name__.strip("_").replace("_", " ")
        text = " ".join(f"{type(error).__name__}: {error}".split())
        yield Finding(False, f"{name}: {text}; install the package again in a fresh environment")


def _python() -> Iterator[Finding]:
    found = sys.version.split()[0]
    yield Finding(sys.version_info >= (3, 11), f"Python {found} (3.11 or newer is needed)")


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(True, f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding(False, f"{name} is not installed: pip install {name}")
    for name, use in _OPTIONAL.items():
        try:
            yield Finding(True, f"{name} {version(name)} (for {use})")
        except PackageNotFoundError:
            yield Finding(True, f"{name} is not installed; only {use} needs it")


def _openslide() -> Iterator[Finding]:
    try:
        import openslide
    except (ImportError, OSError) as error:
        yield Finding(False, f"OpenSlide does not load ({error}): pip install openslide-bin")
    else:
        yield Finding(True, f"OpenSlide library {openslide.__library_version__}")


def _codecs() -> Iterator[Finding]:
    """Write and read back a picture in every compression that slides have."""
    import numpy as np
    import tifffile

    ramp = np.linspace(0, 255, 256, dtype=np.uint8)
    picture = np.stack([np.broadcast_to(ramp, (256, 256))] * 3, axis=-1)
    broken = []
    for codec in _CODECS:
        stream = io.BytesIO()
        try:
            tifffile.imwrite(stream, picture, compression=codec, tile=(256, 256), photometric="rgb")
            stream.seek(0)
            read = tifffile.imread(stream)
        except (ValueError, RuntimeError, ImportError, KeyError) as error:
            broken.append(f"{codec} ({error})")
            continue
        if np.abs(read.astype(int) - picture).max() > 32:
            broken.append(f"{codec} (gives back other pixels)")
    if broken:
        yield Finding(False, f"codecs: {', '.join(broken)}: pip install --force imagecodecs")
    else:
        yield Finding(True, f"codecs: {', '.join(_CODECS)}")


def _readers() -> Iterator[Finding]:
    """Read one painted slide with every reader; all must return the same pixels."""
    import numpy as np

    from wsi_sampath.errors import WsiError
    from wsi_sampath.slides.slide import Slide
    from wsi_sampath.synthetic.painted import paint_slide

    with tempfile.TemporaryDirectory(prefix="wsi-doctor-") as folder:
        path = Path(folder) / "painted.svs"
        paint_slide(path, width=512, height=512, mpp=0.5, seed=1)
        seen = {}
        for name in _READERS:
            try:
                with Slide.open(path, reader=name) as slide:
                    seen[name] = slide.read(x0=0, y0=0, width=512, height=512, mpp=0.5)
            except WsiError as error:
                yield Finding(False, f"reader {name}: {error.message}")
        for name, pixels in seen.items():
            difference = np.abs(pixels.astype(int) - next(iter(seen.values()))).max()
            fine = bool(difference <= 2)
            text = "reads" if fine else f"differs by up to {difference} of 255: install it again"
            yield Finding(fine, f"reader {name}: {text}")


def _devices() -> Iterator[Finding]:
    import torch

    count = torch.cuda.device_count()
    for index in range(count):
        name = torch.cuda.get_device_name(index)
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info(index))
        text = f"cuda:{index} {name}, {free:.0f} of {total:.0f} GiB free"
        yield Finding(free > 4, text if free > 4 else f"{text}: stop what else runs there")
    if torch.backends.mps.is_available():
        yield Finding(True, "mps")
    elif not count and _DRIVER.exists():
        text = "an NVIDIA driver is here, but torch sees no GPU: install torch for CUDA"
        yield Finding(False, f"{text} (pytorch.org), or check CUDA_VISIBLE_DEVICES")
    elif not count:
        yield Finding(True, "no GPU: the network runs on the CPU, slowly")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = plural(torch.get_num_threads(), "thread")
    yield Finding(True, f"CPU: {plural(cores or 1, 'core')}, torch uses {threads}")


def _precisions() -> Iterator[Finding]:
    """Multiply matrices in every precision on the device that a run would take."""
    import torch

    from wsi_sampath.inference.predictor import resolve_precision
    from wsi_sampath.models.device import resolve_device

    device = resolve_device("auto")
    dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(_MATRIX, _MATRIX, generator=generator)
    exact = matrix @ matrix
    used = resolve_precision("auto", device)
    for name, dtype in dtypes.items():
        try:
            product = (matrix.to(device, dtype) @ matrix.to(device, dtype)).float().cpu()
        except RuntimeError as error:
            yield Finding(name != used, f"{name} on {device}: {' '.join(str(error).split())}")
            continue
        off = float((product - exact).abs().max() / exact.abs().max())
        fine = off < _ROUNDING[name]
        note = ", the one that --precision auto takes" if name == used else ""
        text = f"{name} on {device}: relative error {off:.0e}{note}"
        yield Finding(fine, text if fine else f"{text}: too much; choose another --precision")


def _disk(out: Path) -> Iterator[Finding]:
    """Write one large file and many small ones where the results would go."""
    place = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not place.is_dir():
        yield Finding(False, f"--out {out}: {place} is a file; name a folder")
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".wsi-doctor-", dir=place) as folder:
            speed, rate = _write_large(Path(folder)), _write_small(Path(folder))
    except OSError as error:
        yield Finding(False, f"--out {out}: cannot be written: {error.strerror}; choose another")
        return
    free = shutil.disk_usage(place).free / 1e9
    text = f"--out {out}: {speed:.0f} MB/s, {rate:.0f} small files/s, {free:.0f} GB free"
    complaints = {
        "slow for large files": speed < _SLOW_MB_PER_S,
        "slow for small files": rate < _SLOW_FILES_PER_S,
        "almost full": free < _LITTLE_GB,
    }
    found = [complaint for complaint, holds in complaints.items() if holds]
    yield Finding(not found, f"{text}: {', '.join(found)}; use another disk" if found else text)


def _write_large(folder: Path) -> float:
    """Return MB/s, including the disk's own cache."""
    block = os.urandom(1_000_000)
    start = time.perf_counter()
    with (folder / "large").open("wb") as stream:
        for _ in range(_SPEED_MB):
            stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())
    return _SPEED_MB / (time.perf_counter() - start)


def _write_small(folder: Path) -> float:
    """Return files per second, each written under another name and renamed, as a zarr's are."""
    start = time.perf_counter()
    for number in range(_SMALL_FILES):
        growing = folder / f"{number}.partial"
        growing.write_bytes(b"x" * 4096)
        growing.rename(folder / str(number))
    return _SMALL_FILES / (time.perf_counter() - start)


def _models() -> Iterator[Finding]:
    from wsi_sampath.models.shipped import bundled_models

    names = ", ".join(bundled_models())
    yield Finding(bool(names), f"bundled models: {names or 'none; install the package again'}")


def _self_test() -> Iterator[Finding]:
    """Take one tile all the way with the default model."""
    from wsi_sampath.errors import WsiError
    from wsi_sampath.inference.segmenter import segment_slide
    from wsi_sampath.inference.settings import SegmentSettings
    from wsi_sampath.synthetic.painted import paint_slide

    settings = SegmentSettings(tissue="none", workers=1)
    with tempfile.TemporaryDirectory(prefix="wsi-doctor-") as folder:
        path = Path(folder) / "painted.svs"
        paint_slide(path, width=1024, height=1024, mpp=0.5, seed=1)
        try:
            run = segment_slide(path, Path(folder) / "a.zarr", settings=settings).attributes
        except WsiError as error:
            yield Finding(False, f"self-test: {error.reason}: {error.message}")
            return
    fine = run["tiles"]["analysed"] == 1 and sum(run["area_mm2"].values()) > 0.2
    text = f"self-test: one tile by {settings.model} on {run['device']}, {run['precision']}: "
    spent = f"{run['seconds']['total']:.1f} s, {run['peak_memory_mb']:.0f} MB"
    yield Finding(fine, text + (spent if fine else "nothing was analysed; install it again"))
