"""What a user waits for before anything happens: the packages that a run imports."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from wsi_sampath.synthetic.svs_writer import write_svs

SAID = "packages:"
RUN = f"""
import sys
from wsi_sampath.cli.segment import main
from wsi_sampath.models.sam_path.network import SamPath
# The network alone takes as long as all else, and imports nothing.
SamPath.maps = lambda self, images, side: images.new_full((len(images), 2, side, side), 0.5)
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
known = sys.stdlib_module_names
found = {{name.partition(".")[0] for name in sys.modules}} - known - {{"__main__", "__mp_main__"}}
found |= {{"torch._dynamo"}} & set(sys.modules)
print("{SAID}", *sorted(name for name in found if name[0] != "_"))
"""
OURS = {
    *("PIL", "geojson", "imagecodecs", "jinja2", "numcodecs", "numpy", "openslide", "pydantic"),
    *(
        "rich",
        "safetensors",
        "scipy",
        "segment_anything",
        "shapely",
        "skimage",
        "tifffile",
        "torch",
    ),
    *("tqdm", "typer", "wsi_sampath", "yaml", "zarr"),
}
THEIRS = {
    *("annotated_doc", "annotated_types", "charset_normalizer", "cython_runtime", "donfig"),
    *("fsspec", "google_crc32c", "lazy_loader", "markupsafe", "msgpack", "openslide_bin"),
    *("packaging", "pydantic_core", "pygments", "shellingham", "torchgen", "typing_extensions"),
    *("typing_inspection", "xxhash"),
}
"""What the packages above cannot do without."""


def packages(*words: str) -> set[str]:
    """Run ``wsi-segment`` in a process of its own; return the packages that it has imported."""
    command = [sys.executable, "-c", RUN, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition(SAID)[2].split())


def test_a_run_with_the_bundled_model_imports_what_it_needs(tmp_path):
    slide = tmp_path / "a.svs"
    pixels = np.full((512, 512, 3), 240, np.uint8)
    pixels[128:384, 128:384] = (190, 90, 160)
    write_svs(slide, [pixels], width=512, height=512, mpp=1.0, levels=(1, 4))
    out = tmp_path / "a.zarr"
    found = packages(str(slide), "--out", str(out), "--device", "cpu")
    assert (tmp_path / "a.html").exists()
    assert {"torch", "skimage", "zarr", "jinja2"} <= found, "the list is of another kind of run"
    assert found - OURS - THEIRS == set()
