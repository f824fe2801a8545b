from __future__ import annotations

import pytest
from batch_stub import load_stub, settings

from wsi_sampath.batch.discover import Job
from wsi_sampath.batch.runner import run_batch
from wsi_sampath.slides.painted import paint_slide


@pytest.mark.parametrize(
    ("left", "fine"),
    [
        (["ledger/"], True),
        (["ledger/identity.json.growing"], True),
        (["ledger/00000003.strip", "maps.zarr/"], True),
        (["ledger/", "thesis.txt"], False),
        (["ledger/thesis.txt"], False),
    ],
)
def test_a_kill_before_the_folder_says_whose_it_is(tmp_path, left, fine):
    slide = tmp_path / "s.svs"
    paint_slide(slide, width=500, height=400, mpp=0.5, seed=2)
    for name in left:
        path = tmp_path / "s.zarr.partial" / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(b"")
    (outcome,) = run_batch([Job(slide, tmp_path / "s.zarr")], settings(), load_stub())
    assert outcome.done == fine, outcome.message
    assert (tmp_path / "s.zarr.partial").exists() != fine
