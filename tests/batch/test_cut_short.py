from __future__ import annotations

import json
import socket

import pytest
from batch_stub import load_stub, settings

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.discover import Job
from wsi_sampath.batch.runner import run_batch
from wsi_sampath.synthetic.painted import paint_slide


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
    (outcome,) = run_batch(Batch([Job(slide, tmp_path / "s.zarr")], settings()), load_stub())
    assert outcome.done == fine, outcome.message
    assert (tmp_path / "s.zarr.partial").exists() != fine


def test_a_kill_after_publishing_is_tidied_up(tmp_path):
    slide = tmp_path / "s.svs"
    paint_slide(slide, width=500, height=400, mpp=0.5, seed=2)
    job = Job(slide, tmp_path / "out" / "s.zarr")
    run_batch(Batch([job], settings(), tmp_path / "out"), load_stub())
    (tmp_path / "out" / "s.zarr.partial" / "ledger").mkdir(parents=True)
    dead = {"host": socket.gethostname(), "pid": 2**22 + 1, "started": 0}
    (tmp_path / "out" / "s.zarr.claim").write_text(json.dumps(dead))
    (outcome,) = run_batch(Batch([job], settings(), tmp_path / "out"), load_stub())
    assert outcome.result.reused
    left = [path.name for path in (tmp_path / "out").glob("s.*")]
    assert sorted(left) == ["s.geojson", "s.html", "s.log", "s.zarr"]
