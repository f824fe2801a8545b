"""Measure one forward pass: which attention is fastest, and how near to the hardware's arithmetic.

Every variant runs in a process of its own, so that its peak memory is its own. The floor is the
arithmetic of the published network divided by what a large matrix product reaches on the same
device, in the same precision, with the same threads.

On a CPU the share of the floor is one of CPU seconds, which other work on the machine does not
change; tiles per second are by the clock.

Run: python benchmarks/model_forward.py [--device cuda] [--dtypes bf16 fp32] [--batch 8]
     [--threads 2] [--variants fused mask ...] [--out benchmarks/results/model_forward.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from wsi_sampath.models import attention
from wsi_sampath.models.checkpoints import build_model
from wsi_sampath.models.encoders import SamEncoder
from wsi_sampath.models.spec import ModelSpec, SamSpec

TILE = 1024
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
VARIANTS = (
    "published",
    "reference",
    "mask",
    "fused",
    "flex",
    "compile",
    "sam-path",
    "sam-path-compile",
)
CUDA_ONLY = {"flex"}
MATRIX = {"cpu": 2048, "cuda": 8192}


def mask_attention(query, key, value, rows, columns):
    """Attend with the bias as an additive mask of the fused kernel."""
    height, width, channels = query.shape[2:]
    by_row, by_column = attention.relative_bias(query, rows, columns)
    bias = (by_row[..., :, None] + by_column[..., None, :]).reshape(
        *query.shape[:2], height * width, height * width
    )
    q, k, v = (part.flatten(2, 3) for part in (query, key, value))
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def flex_attention(query, key, value, rows, columns):
    """Attend with the bias as FlexAttention's change of the score."""
    from torch.nn.attention.flex_attention import flex_attention as flex

    width = query.shape[3]
    by_row, by_column = (
        bias.flatten(2, 3) for bias in attention.relative_bias(query, rows, columns)
    )

    def biased(score, batch, head, q, k):
        return score + by_row[batch, head, q, k // width] + by_column[batch, head, q, k % width]

    q, k, v = (part.flatten(2, 3) for part in (query, key, value))
    return _compiled(flex)(q, k, v, score_mod=biased)


_KNOWN = {}


def _compiled(function):
    if function not in _KNOWN:
        _KNOWN[function] = torch.compile(function, dynamic=False)
    return _KNOWN[function]


def published_encoder(size):
    """SAM's image encoder as segment-anything builds it."""
    from segment_anything import sam_model_registry

    return sam_model_registry[size]().image_encoder


def full_model(size):
    """SAM-Path with HIPT and five classes."""
    classes = [{"name": name, "color": "#808080"} for name in "abcde"]
    values = {"name": "x", "classes": classes, "mpp": 0.25, "sam": size, "pathology": "hipt_vits16"}
    return build_model(ModelSpec.model_validate(values))


def build(variant, size):
    """Build the module of a variant, with the attention it asks for."""
    if variant == "published":
        return published_encoder(size)
    if variant.startswith("sam-path"):
        module = full_model(size)
    else:
        module = SamEncoder(SamSpec.model_validate(size), TILE, neck_channels=256)
    others = {"mask": mask_attention, "flex": flex_attention}
    if variant in others:
        attention.reference_attention = others[variant]
    plain = variant in {"reference", *others}
    attention.set_attention(module, "reference" if plain else "fused")
    return module


def arithmetic(variant, size):
    """Floating-point operations of one tile, counted on the published attention."""
    whole = variant.startswith("sam-path")
    with torch.device("meta"):
        module = full_model(size) if whole else published_encoder(size)
        attention.set_attention(module, "reference")
        tile = torch.empty(1, 3, TILE, TILE)
        counter = FlopCounterMode(display=False)
        # Tensors without values know no autocast.
        without = mock.patch("torch.autocast", return_value=nullcontext())
        with without, counter, torch.no_grad():
            module(tile)
    return counter.get_total_flops()


def synchronise(device):
    if device == "cuda":
        torch.cuda.synchronize()


def clocked(function, device, repeats):
    """Seconds by the clock and CPU seconds, each the best of some calls."""
    best = [float("inf")] * 2
    for _ in range(repeats):
        synchronise(device)
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        synchronise(device)
        spent = (time.perf_counter() - wall, time.process_time() - cpu)
        best = [min(pair) for pair in zip(best, spent, strict=True)]
    return best


def matrix_rate(device, dtype):
    """Floating-point operations per second (on a CPU, per CPU second) of a large matrix product."""
    side = MATRIX[device]
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    one @ other
    return 2 * side**3 / clocked(lambda: one @ other, device, 5)[device == "cpu"]


def measure(options):
    """Time one variant; the answer is one JSON object."""
    torch.set_num_threads(options.threads)
    device, dtype = options.device, DTYPES[options.dtype]
    torch.manual_seed(0)
    module = build(options.one, options.size).eval().to(device)
    if options.one.endswith("compile"):
        module = torch.compile(module)
    tiles = torch.randn(options.batch, 3, TILE, TILE, device=device)
    half = nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype=dtype)

    def forward():
        with torch.inference_mode(), half:
            return module(tiles)

    began = time.perf_counter()
    forward()
    synchronise(device)
    first = time.perf_counter() - began
    seconds, cpu = clocked(forward, device, options.repeats)
    floor = arithmetic(options.one, options.size) / matrix_rate(device, dtype)
    return {
        "variant": options.one,
        "dtype": options.dtype,
        "batch": options.batch,
        "tiles_per_s": round(options.batch / seconds, 4),
        "cpu_s_per_tile": round(cpu / options.batch, 3),
        "floor_s_per_tile": round(floor, 5),
        "share_of_floor": round(floor * options.batch / (cpu if device == "cpu" else seconds), 3),
        "first_call_s": round(first, 2),
        "peak_memory_gib": round(peak_memory(device) / 2**30, 2),
    }


def peak_memory(device):
    """Bytes: of the GPU's allocator, or of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def hardware(options):
    """Name what it ran on."""
    if options.device == "cuda":
        return torch.cuda.get_device_name()
    names = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    name = names[0].split(":")[1].strip() if names else platform.processor()
    amx = torch.cpu._is_amx_tile_supported()
    return f"{name}{' with AMX' if amx else ''}, {options.threads} thread(s)"


def in_own_process(options, variant, dtype):
    """Run `measure` in a new process; None if it fails."""
    words = ["--one", variant, "--dtype", dtype, "--device", options.device, "--size", options.size]
    numbers = ["--batch", options.batch, "--threads", options.threads, "--repeats", options.repeats]
    command = [sys.executable, __file__, *words, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed"])[-1]
        return {"variant": variant, "dtype": dtype, "failed": last[:200]}
    return json.loads(done.stdout.splitlines()[-1])


def named(record):
    return record["variant"], record["dtype"], record.get("batch", 1)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"], choices=DTYPES)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--size", default="vit_b")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="fp32", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    options = arguments()
    if options.one:
        print(json.dumps(measure(options)))
        return
    records = []
    for dtype in options.dtypes:
        for variant in options.variants:
            if variant in CUDA_ONLY and options.device != "cuda":
                continue
            records.append(in_own_process(options, variant, dtype))
            print(json.dumps(records[-1]), flush=True)
    if options.out:
        # What other machines, or other variants on this one, measured stays.
        results = json.loads(options.out.read_text()) if options.out.exists() else {}
        entry = {"torch": torch.__version__, "size": options.size, "tile": TILE}
        before = results.get(hardware(options), {}).get("runs", [])
        kept = [one for one in before if named(one) not in [named(other) for other in records]]
        results[hardware(options)] = {**entry, "runs": kept + records}
        options.out.parent.mkdir(exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
