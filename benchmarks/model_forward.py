"""Measure one forward pass: which attention is fastest, and how near to the hardware's arithmetic.

The floor is the arithmetic of the network as published, counted from its shapes, divided by what a
large matrix product reaches on the same device in the same precision. By the command every variant
runs in a process of its own, so that its peak memory is its own.

On a CPU the share of the floor is one of CPU seconds, which other work on the machine does not
change; tiles per second are by the clock.

Run: python benchmarks/model_forward.py [--device cuda] [--dtypes bf16 fp32] [--batch 8]
     [--threads 2] [--variants fused mask ...] [--out benchmarks/results/model_forward.json]
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from attention_forms import attending
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wsi_sampath.inference.summary import peak_memory_mb
from wsi_sampath.models.checkpoints import build_model
from wsi_sampath.models.described import model_spec
from wsi_sampath.models.parts import attention
from wsi_sampath.models.parts.encoders import SamEncoder
from wsi_sampath.models.parts.sam_parts import ImageEncoderViT
from wsi_sampath.models.parts.specs import SamSpec
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.models.spec import ModelSpec

SIZES = ("vit_b", "vit_l", "vit_h", "tiny")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MATRIX = {"cpu": 2048, "cuda": 8192}
SMALL_MATRIX = 256
NECK_CHANNELS = 256
CLASSES = [{"name": name, "color": "#808080"} for name in "abcde"]
TINY_SAM = {"embed_dim": 32, "depth": 2, "num_heads": 2, "global_attn_indexes": [1]}
TINY_PATHOLOGY = {"encoder": {"embed_dim": 24, "depth": 1, "num_heads": 2}}
TINY_DECODER = {"dim": 32, "depth": 1, "num_heads": 2, "mlp_dim": 32}
TINY_TILE = 128
KERNELS_NAMED = 12


@dataclass(frozen=True)
class Variant:
    """What runs: a network, the form of SAM's attention in it, and whether it is compiled.

    Parameters
    ----------
    network
        ``published`` (segment-anything's own encoder), ``encoder`` (ours), ``sam-path`` or
        ``gland-mini``.
    attention
        ``reference`` (the bias written out), ``mask`` (as an additive mask of the fused kernel),
        ``fused`` (folded into query and key) or ``flex`` (FlexAttention).
    compiled
        By torch.compile, as a whole.
    """

    network: str
    attention: str = "fused"
    compiled: bool = False


VARIANTS = {
    "published": Variant("published", "reference"),
    "reference": Variant("encoder", "reference"),
    "mask": Variant("encoder", "mask"),
    "fused": Variant("encoder"),
    "flex": Variant("encoder", "flex"),
    "compile": Variant("encoder", compiled=True),
    **{
        name + suffix: variant
        for name in ("sam-path", "gland-mini")
        for suffix, variant in {
            "": Variant(name),
            "-reference": Variant(name, "reference"),
            "-mask": Variant(name, "mask"),
            "-flex": Variant(name, "flex"),
            "-compile": Variant(name, compiled=True),
        }.items()
    },
}
CUDA_ONLY = {name for name, variant in VARIANTS.items() if variant.attention == "flex"}


@dataclass(frozen=True)
class Trial:
    """One measurement: a variant by name, and how it runs."""

    variant: str
    dtype: str = "fp32"
    device: str = "cpu"
    size: str = "vit_b"
    batch: int = 1
    repeats: int = 3
    threads: int | None = None
    backend: str = "inductor"


def specification(network: str, size: str) -> ModelSpec:
    """Describe SAM-Path with HIPT and five classes, or the bundled model; ``tiny`` for a try."""
    if network == "gland-mini":
        bundled = model_spec("gland-mini")
        return bundled.model_copy(update={"tile": TINY_TILE // 2}) if size == "tiny" else bundled
    values: dict[str, Any] = {"name": "x", "classes": CLASSES, "mpp": 0.25}
    if size == "tiny":
        values |= {"sam": TINY_SAM, "pathology": TINY_PATHOLOGY, "decoder": TINY_DECODER}
        return SamPathSpec.model_validate(values | {"tile": TINY_TILE})
    return SamPathSpec.model_validate(values | {"sam": size, "pathology": "hipt_vits16"})


def published_encoder(sam: SamSpec, tile: int) -> nn.Module:
    """SAM's image encoder as segment-anything builds it."""
    encoder: nn.Module = ImageEncoderViT(
        img_size=tile,
        patch_size=sam.patch,
        embed_dim=sam.embed_dim,
        depth=sam.depth,
        num_heads=sam.num_heads,
        mlp_ratio=sam.mlp_ratio,
        out_chans=NECK_CHANNELS,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=sam.window_size,
        global_attn_indexes=sam.global_attn_indexes,
    )
    return encoder


def build(network: str, size: str) -> tuple[nn.Module, int]:
    """Build a network with random weights; return it with the side of its tiles."""
    spec = specification(network, size)
    if network in ("sam-path", "gland-mini"):
        return build_model(spec), spec.tile
    if spec.sam is None:
        raise ValueError(f"{network} of {size} has no SAM")
    if network == "published":
        return published_encoder(spec.sam, spec.tile).eval(), spec.tile
    return SamEncoder(spec.sam, spec.tile, neck_channels=NECK_CHANNELS).eval(), spec.tile


@cache
def arithmetic(network: str, size: str) -> int:
    """Floating-point operations of one tile, counted on the published attention."""
    with torch.device("meta"):
        module, side = build(network, size)
        attention.set_attention(module, "reference")
        tile = torch.empty(1, 3, side, side)
        counter = FlopCounterMode(display=False)
        # Tensors without values know no autocast.
        without = mock.patch("torch.autocast", return_value=nullcontext())
        with without, counter, torch.no_grad():
            module(tile)
    return int(counter.get_total_flops())


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def clocked(
    function: Callable[[], object], device: str, repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds by the clock and CPU seconds of some calls, each in ascending order."""
    spent = []
    for _ in range(repeats):
        synchronise(device)
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        synchronise(device)
        spent.append((time.perf_counter() - wall, time.process_time() - cpu))
    walls, cpus = zip(*spent, strict=True)
    return sorted(walls), sorted(cpus)


@cache
def matrix_rate(device: str, dtype: torch.dtype, side: int) -> float:
    """Floating-point operations per second (on a CPU, per CPU second) of a large matrix product."""
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    one @ other
    best = clocked(lambda: one @ other, device, 5)[device == "cpu"][0]
    return 2 * side**3 / best


def measure(trial: Trial) -> dict[str, Any]:
    """Time one variant; the answer is one JSON object."""
    if trial.threads:
        torch.set_num_threads(trial.threads)
    variant = VARIANTS[trial.variant]
    _begin(trial.device)
    module, side = build(variant.network, trial.size)
    module = module.to(trial.device)
    with attending(module, variant.attention, trial.backend):
        row = _timed(module, side, trial)
    matrix = SMALL_MATRIX if trial.size == "tiny" else MATRIX[trial.device]
    rate = matrix_rate(trial.device, DTYPES[trial.dtype], matrix)
    work = arithmetic(variant.network, trial.size)
    floor = work / rate
    used = row.pop("used_s_per_tile")
    named = {"variant": trial.variant, "dtype": trial.dtype, "batch": trial.batch}
    return {
        **named,
        **row,
        "tflop_per_tile": round(work / 1e12, 4),
        "matrix_tflop_per_s": round(rate / 1e12, 3),
        "floor_s_per_tile": round(floor, 7),
        "share_of_floor": round(floor / used, 3),
    }


def _begin(device: str) -> None:
    """Forget what an earlier trial in this process left behind."""
    torch.manual_seed(0)
    # To import the compiler takes seconds, and it knows nothing where it is not there yet.
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _timed(module: nn.Module, side: int, trial: Trial) -> dict[str, Any]:
    device, dtype = trial.device, DTYPES[trial.dtype]
    run = module
    if VARIANTS[trial.variant].compiled:
        run = torch.compile(module, backend=trial.backend)
    tiles = torch.randn(trial.batch, 3, side, side, device=device)
    half = nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype=dtype)

    def forward() -> object:
        with torch.inference_mode(), half:
            return run(tiles)

    first = clocked(forward, device, 1)[0][0]
    walls, cpus = clocked(forward, device, trial.repeats)
    memory = peak_memory(device)
    return {
        "tiles_per_s": round(trial.batch / walls[0], 4),
        "tiles_per_s_median": round(trial.batch / statistics.median(walls), 4),
        "cpu_s_per_tile": round(cpus[0] / trial.batch, 5),
        "used_s_per_tile": (cpus if device == "cpu" else walls)[0] / trial.batch,
        "first_call_s": round(first, 2),
        "peak_memory_gib": round(memory / 2**30, 2),
        "kernels": kernels(forward, device),
    }


def kernels(forward: Callable[[], object], device: str) -> dict[str, Any]:
    """Return where the time of one pass goes: milliseconds in all, and by kernel."""
    from torch.profiler import ProfilerActivity, profile

    activity = ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
    with profile(activities=[activity]) as seen:
        forward()
        synchronise(device)
    rows = seen.key_averages()
    spent = {
        one.key: (one.self_device_time_total if device == "cuda" else one.self_cpu_time_total) / 1e3
        for one in rows
    }
    most = sorted(spent, key=lambda name: -spent[name])[:KERNELS_NAMED]
    return {
        "ms": round(sum(spent.values()), 3),
        "calls": sum(one.count for one in rows if spent[one.key]),
        "most": {name[:120]: round(spent[name], 3) for name in most},
    }


def peak_memory(device: str) -> float:
    """Bytes: of the GPU's allocator, or of this process."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory_mb() * 1e6


def hardware(options: argparse.Namespace) -> str:
    """Name what it ran on."""
    if options.device == "cuda":
        return torch.cuda.get_device_name()
    names = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    name = names[0].split(":")[1].strip() if names else platform.processor()
    amx = torch.cpu._is_amx_tile_supported()
    return f"{name}{' with AMX' if amx else ''}, {options.threads} thread(s)"


def in_own_process(options: argparse.Namespace, variant: str, dtype: str) -> dict[str, Any]:
    """Run `measure` in a new process; a failure is a row as well."""
    words = ["--one", variant, "--dtype", dtype, "--device", options.device, "--size", options.size]
    numbers = ["--batch", options.batch, "--threads", options.threads, "--repeats", options.repeats]
    command = [sys.executable, __file__, *words, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed"])[-1]
        return {"variant": variant, "dtype": dtype, "failed": last[:200]}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def named(record: dict[str, Any]) -> tuple[str, str, int]:
    return record["variant"], record["dtype"], record.get("batch", 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"], choices=DTYPES)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--size", default="vit_b", choices=SIZES)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="fp32", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.one:
        trial = Trial(
            options.one,
            options.dtype,
            options.device,
            options.size,
            options.batch,
            options.repeats,
            options.threads,
        )
        print(json.dumps(measure(trial)))
        return
    records = []
    for dtype in options.dtypes:
        for variant in options.variants:
            if variant in CUDA_ONLY and options.device != "cuda":
                continue
            records.append(in_own_process(options, variant, dtype))
            print(json.dumps(records[-1]), flush=True)
    if options.out:
        store(options, records)


def store(options: argparse.Namespace, records: list[dict[str, Any]]) -> None:
    """Add the records; what other machines, or other variants on this one, measured stays."""
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    entry = {"torch": torch.__version__, "size": options.size}
    before = results.get(hardware(options), {}).get("runs", [])
    kept = [one for one in before if named(one) not in [named(other) for other in records]]
    results[hardware(options)] = {**entry, "runs": kept + records}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
