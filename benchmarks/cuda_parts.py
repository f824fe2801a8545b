"""The parts of the run on a CUDA machine, and the process that each of them runs in.

A new part is one more function and one more line of `PARTS`.

Run by cuda_run.py: cuda_parts.py --scratch DIR [--smoke] NAME ROWS
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARITY = ROOT / "tests" / "parity" / "test_parity_device.py"
EXTRAS = {"distributed", "geopandas", "lightning", "tensorboard", "torchmetrics"}
PACKAGES = ("torch", "triton", "numpy", "timm", "torchvision", "zarr", "tifffile", "imagecodecs")
FAILURE_CHARS = 2000
TEST_SECONDS = 90


@dataclass(frozen=True)
class Job:
    """What a part gets: where to write a row, a folder of its own, and how large things may be."""

    write: Callable[[dict[str, Any]], None]
    scratch: Path
    smoke: bool

    @property
    def device(self) -> str:
        """Return what the networks run on."""
        return "cpu" if self.smoke else "cuda"


@dataclass(frozen=True)
class Part:
    """Seconds that it may take, and what it does."""

    seconds: float
    function: Callable[[Job], None]


def check_imports(job: Job) -> None:
    """Import every module of the package, and run its check-up; for a try one room is enough."""
    import wsi_sampath

    room = "wsi_sampath.slides" if job.smoke else "wsi_sampath"
    found = pkgutil.walk_packages(wsi_sampath.__path__, "wsi_sampath.")
    names = [module.name for module in found if module.name.startswith(room)]
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            kind = "without_extra" if error.name in EXTRAS else "failed"
            job.write({"module": name, kind: str(error)})
        except Exception as error:  # noqa: BLE001 - whatever is broken there is what we look for
            job.write({"module": name, "failed": repr(error)})
    job.write({"modules": len(names)})
    if not job.smoke:
        check_up(job)


def check_up(job: Job) -> None:
    """Let ``wsi-doctor`` look at the machine."""
    lines = command(job, "doctor", check=False).splitlines()
    # In a checkout the package itself has no version to be found.
    expected = "wsi-sampath is not installed"
    problems = [one for one in lines if one.startswith("PROBLEM") and expected not in one]
    ended = [line for line in lines if "self-test" in line]
    if not ended:
        problems.append("wsi-doctor did not come to its end")
    row: dict[str, Any] = {"doctor": lines}
    job.write(row | ({"failed": "; ".join(problems)} if problems else {}))


def command(job: Job, name: str, *words: str, check: bool = True) -> str:
    """Run ``wsi-NAME`` on the job's kind of device; return what it printed."""
    run = f"from wsi_sampath.cli.{name} import main; main()"
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": ""} if job.smoke else {})}
    done = subprocess.run(
        [sys.executable, "-c", run, *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if check and done.returncode:
        raise RuntimeError(f"wsi-{name}: {done.stderr.strip()[-FAILURE_CHARS:]}")
    return done.stdout


def check_parity(job: Job) -> None:
    """Hold SAM-Path on the GPU to the official numbers, and less precision to full precision."""
    run_tests(job, [PARITY], "not cuda" if job.smoke else "cuda")


def check_tests(job: Job) -> None:
    """Run the tests that want a GPU, but those that compile."""
    run_tests(job, cuda_tests(), "cuda", "not compiled")


def cuda_tests() -> list[Path]:
    """Return the files of tests that want a GPU, those of `check_parity` apart."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    marked = [one for one in files if "mark.cuda" in one.read_text(encoding="utf-8")]
    return [one for one in marked if one not in (PARITY, Path(__file__))]


class _Rows:
    """A pytest plugin that writes a row for every test as it ends."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "call" and report.passed:
            return
        row = {"test": report.nodeid, "outcome": report.outcome, "seconds": report.duration}
        row |= dict(report.user_properties)
        if report.failed:
            row["failed"] = report.longreprtext[-FAILURE_CHARS:]
        self._job.write(row)

    def pytest_collection_finish(self, session: Any) -> None:
        self._job.write({"tests": len(session.items)})

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._job.write({"test": report.nodeid, "failed": report.longreprtext[-FAILURE_CHARS:]})


def run_tests(job: Job, files: list[Path], marks: str, words: str = "") -> None:
    """Run tests in this process, a row for each; those for a GPU are only looked for on a CPU."""
    import pytest

    chosen = ["-m", marks, *(["-k", words] if words else [])]
    chosen += ["--collect-only"] if job.smoke and marks == "cuda" else []
    plain = ["-p", "no:cacheprovider", "-o", f"timeout={TEST_SECONDS}", "--rootdir", str(ROOT)]
    code = pytest.main([*map(str, files), *chosen, *plain], plugins=[_Rows(job)])
    known = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    if code not in known:
        job.write({"failed": f"pytest ended with {code!r}"})


def measure_forward(job: Job) -> None:
    """Time the networks alone: every attention, in the precisions that matter."""
    half, full = "bf16", "fp32"
    first = [("sam-path", half), ("gland-mini", half), ("published", full), ("sam-path", full)]
    forms = [(f"sam-path-{form}", half) for form in ("mask", "reference")]
    rest = [("sam-path", "fp16"), ("fused", half), ("fused", full), ("published", half)]
    mini = [(f"gland-mini-{form}", half) for form in ("mask", "reference")]
    _time_forward(job, [*first, *forms, *rest, *mini, ("gland-mini", full)])


def measure_compiled(job: Job) -> None:
    """Time what is compiled first, which may take long or fail; then the tests that compile."""
    names = ("sam-path-compile", "sam-path-flex", "gland-mini-compile", "gland-mini-flex")
    _time_forward(job, [(name, "bf16") for name in (names[:2] if job.smoke else names)])
    run_tests(job, cuda_tests(), "cuda", "compiled")


def _time_forward(job: Job, wanted: list[tuple[str, str]]) -> None:
    import model_forward

    # Compilers for CPUs take a minute; that the graph can be had at all shows without one.
    small = {"size": "tiny", "repeats": 1, "backend": "eager"}
    large = {"size": "vit_b", "batch": 8, "repeats": 10}
    for variant, dtype in wanted:
        how: Any = small if job.smoke else large
        trial = model_forward.Trial(variant, dtype, job.device, **how)
        try:
            job.write(model_forward.measure(trial))
        except Exception:  # noqa: BLE001 - the next variant may well run
            text = traceback.format_exc()[-FAILURE_CHARS:]
            job.write({"variant": variant, "dtype": dtype, "failed": text})


def measure_sam_path(job: Job) -> None:
    """Take a slide to its files by SAM-Path of full size with random weights."""
    import cuda_slide

    cuda_slide.measure_slide(job, "sam-path")


def measure_gland_mini(job: Job) -> None:
    """Take a slide to its files by the bundled model."""
    import cuda_slide

    cuda_slide.measure_slide(job, "gland-mini")


def measure_prompts(job: Job) -> None:
    """Time clicks on a slide: the first, the next, a thousand."""
    import prompts

    from wsi_sampath.synthetic.painted import paint_slide

    slide = job.scratch / "prompts.svs"
    side = 1200 if job.smoke else prompts.SIDE
    paint_slide(slide, width=side, height=side, mpp=prompts.SLIDE_MPP, seed=1)
    how = prompts.How(device=job.device, prompts=5 if job.smoke else 1000)
    for name in ("nuclei-mini",) if job.smoke else prompts.MODELS:
        job.write(prompts.measured(name, slide, how))


PARTS = {
    "imports": Part(60, check_imports),
    "parity": Part(90, check_parity),
    "forward": Part(120, measure_forward),
    "slide-sam-path": Part(100, measure_sam_path),
    "slide-gland-mini": Part(60, measure_gland_mini),
    "prompts": Part(90, measure_prompts),
    "tests": Part(60, check_tests),
    "compiled": Part(240, measure_compiled),
}
"""In the order of their worth. Their seconds are limits and add up to more than the whole has."""


def about() -> dict[str, Any]:
    """Name the GPU and the versions."""
    import torch

    gpu = None
    if torch.cuda.is_available():
        seen = torch.cuda.get_device_properties(0)
        gpu = {
            "name": seen.name,
            "memory_gib": round(seen.total_memory / 2**30, 1),
            "capability": f"{seen.major}.{seen.minor}",
            "multiprocessors": seen.multi_processor_count,
            "driver": _driver(),
        }
    cudnn = torch.backends.cudnn.version()
    versions = {"cuda": torch.version.cuda, "cudnn": cudnn, **{n: _version(n) for n in PACKAGES}}
    return {"gpu": gpu, "versions": versions}


def _driver() -> str | None:
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main() -> None:
    """Run one part; what it stumbles over is a row as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    with options.rows.open("a", encoding="utf-8") as file:

        def write(row: dict[str, Any]) -> None:
            print(json.dumps(row, default=str), file=file, flush=True)

        try:
            known = about()
            write({"about": known})
            if not (options.smoke or known["gpu"]):
                raise RuntimeError("no CUDA GPU is to be seen; --smoke tries everything on a CPU")
            PARTS[options.name].function(Job(write, options.scratch, options.smoke))
        except Exception as error:
            write({"failed": traceback.format_exc()[-FAILURE_CHARS:]})
            sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
