"""What a caller must not wait for, and what must still work afterwards."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "torchvision",
    "timm",
    "segment_anything",
    "skimage",
    "wsi_sampath.models.sam_path.network",
)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_with_a_network_of_ones_own_imports_no_other() -> None:
    loaded = run("import sys, wsi_sampath.inference.run; print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)


def test_sam_alone_needs_no_torchvision() -> None:
    loaded = run("import sys, wsi_sampath.models.sam_path.network; print(*sys.modules)").split()
    assert "segment_anything.modeling.mask_decoder" in loaded
    assert not {"torchvision", "timm"} & set(loaded)


def test_the_whole_of_segment_anything_can_be_imported_after_us() -> None:
    out = run(
        "import wsi_sampath.models.parts.torchvision_shim as shim\n"
        "import wsi_sampath.models.sam_path.network as ours\n"
        "shim.ensure_torchvision_imports()\n"
        "from segment_anything import sam_model_registry\n"
        "from segment_anything.modeling import MaskDecoder\n"
        "print(sorted(sam_model_registry), issubclass(ours.ClassDecoder, MaskDecoder))"
    )
    assert out.strip() == "['default', 'vit_b', 'vit_h', 'vit_l'] True"
