"""How long a person waits who points at a slide: the first click, the next one, and a thousand.

Each network gets a process of its own, with all threads or as many as are asked for:

- ``first click``: the slide is opened, a square of it read and encoded, a prompt answered;
- ``next click``: another prompt in a square that was looked at;
- ``pan``: a click in a neighbouring square that was not;
- ``many``: prompts all over the slide, square by square.

Networks other than the bundled ones have random weights: these change no time.

    python benchmarks/prompts.py
    python benchmarks/prompts.py --models nuclei-mini --prompts 200 --threads 2
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import hardware

from wsi_sampath.inference.prompting.embeddings import EmbeddingCache
from wsi_sampath.inference.prompting.prompter import Prompter
from wsi_sampath.inference.prompting.questions import Unanswerable, click
from wsi_sampath.inference.prompting.settings import PromptSettings
from wsi_sampath.inference.settings import Precision
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.parse import parse_spec
from wsi_sampath.models.zoo import build_model, load_model
from wsi_sampath.prompt_files.prompt import Prompt
from wsi_sampath.synthetic.painted import paint_slide

RESULTS = Path(__file__).parent / "results"
SAMS: dict[str, dict[str, Any]] = {
    "MobileSAM": {"architecture": "sam", "sam": "vit_tiny", "mpp": 0.5},
    "SAM ViT-B": {"architecture": "sam", "sam": "vit_b", "mpp": 0.5},
    "WSI-SAM TinyViT": {"architecture": "wsi_sam", "sam": "vit_tiny", "mpp": 1.0},
}
MODELS = ("nuclei-mini", *SAMS)
SIDE, SLIDE_MPP = 6000, 0.5
CLICKS, PANS = 40, 6


@dataclass(frozen=True)
class How:
    """How a network is measured; no threads are all of them, prompts are those of the last row."""

    threads: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    prompts: int = 1000


def loaded(name: str) -> LoadedModel:
    """Return a bundled model, or one of the SAMs with random weights."""
    if name not in SAMS:
        return load_model(name)
    network = build_model(parse_spec({"name": name, **SAMS[name]}))
    return LoadedModel(network.eval(), network.spec, "random weights", name)


def scattered(count: int, seed: int, middle: tuple[float, float], reach: float) -> list[Prompt]:
    """Return clicks around a place, in level-0 px."""
    rng = np.random.default_rng(seed)
    return [click(*(rng.uniform(-reach, reach, 2) + middle)) for _ in range(count)]


def seconds_of(prompter: Prompter, prompt: Prompt) -> float:
    """Return how long an answer takes; nothing being there takes as long."""
    began = time.perf_counter()
    with contextlib.suppress(Unanswerable):
        prompter.ask(prompt)
    return time.perf_counter() - began


def measured(name: str, slide: Path, how: How) -> dict[str, Any]:
    """Return the row of one network."""
    if how.threads:
        torch.set_num_threads(how.threads)
    model = loaded(name)
    settings = PromptSettings(device=how.device, precision=how.precision, cache_gib=0)
    with Prompter(slide, model, settings=settings) as warm:
        width, height = warm.slide.size
        middle = (width / 2, height / 2)
        seconds_of(warm, click(*middle))
    began = time.perf_counter()
    prompter = Prompter(slide, model, settings=settings, cache=EmbeddingCache())
    seconds_of(prompter, click(*middle))
    first = time.perf_counter() - began
    with prompter:
        lattice = prompter.lattices[0]
        step = lattice.step * lattice.plane.zoom_x
        near = scattered(CLICKS, 1, middle, 0.4 * step)
        # Those that another square answers are looked at beforehand.
        for prompt in near:
            seconds_of(prompter, prompt)
        next_clicks = [seconds_of(prompter, prompt) for prompt in near]
        pans = [
            seconds_of(prompter, click(middle[0] + step * (1 + index), middle[1]))
            for index in range(PANS)
            if step * (1 + index) < middle[0]
        ]
        many = scattered(how.prompts, 2, middle, min(middle) - 1)
        squares = len({prompter.place(prompt) for prompt in many})
        began = time.perf_counter()
        answered = sum(not isinstance(one, Unanswerable) for _, one in prompter.answers(many))
        all_of_them = time.perf_counter() - began
    return {
        "model": name,
        "first click s": first,
        "next click p50 ms": 1e3 * float(np.median(next_clicks)),
        "next click p95 ms": 1e3 * float(np.quantile(next_clicks, 0.95)),
        "pan p50 s": float(np.median(pans)),
        "prompts": len(many),
        "squares": squares,
        "answered": answered,
        "all s": all_of_them,
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=0, help="0 for all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS / "prompts.json")
    return parser.parse_args()


def main() -> None:
    """Measure, print a table, and store it."""
    options = parse()
    how = How(options.threads, options.device, options.precision, options.prompts)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "painted.svs"
        paint_slide(slide, width=SIDE, height=SIDE, mpp=SLIDE_MPP, seed=1)
        context = multiprocessing.get_context("spawn")
        for name in options.models:
            with context.Pool(1) as alone:
                rows.append(alone.apply(measured, (name, slide, how)))
            print("  ".join(f"{key} {told(value)}" for key, value in rows[-1].items()), flush=True)
    stored = {
        "hardware": hardware(),
        "device": options.device,
        "precision": options.precision,
        "threads": options.threads or torch.get_num_threads(),
        "torch": torch.__version__,
        "slide": f"painted, {SIDE} x {SIDE} px at {SLIDE_MPP} um",
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")


def told(value: object) -> str:
    """Return a value as the table has it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
