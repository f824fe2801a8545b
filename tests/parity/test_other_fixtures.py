"""The parity tests on another folder: nothing of the first one is hard-coded in them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from make_fixture import make

HERE = Path(__file__).parent


@pytest.mark.slow
def test_another_folder_passes_unchanged(tmp_path):
    folder = tmp_path / "fixtures"
    with torch.enable_grad():  # as without the fixture of these tests
        make(folder)
    files = [
        HERE / f"test_parity_{name}.py"
        for name in ("amg", "hipt", "loss", "patho_sam", "sam", "sam_path", "wsi_sam")
    ]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *files],
        capture_output=True,
        text=True,
        env={**os.environ, "WSI_SAMPATH_PARITY": str(folder)},
    )
    assert run.returncode == 0, run.stdout
    assert int(re.search(r"(\d+) passed", run.stdout).group(1)) >= 7
    for missing in (
        "hipt_vits16.npz",
        "pathosam_decoder.npz",
        "pathosam_e2e.npz",
        "sam_amg.npz",
        "sam_vit_b.npz",
        "sampath_bcss.npz",
        "sampath_crag.npz",
        "wsisam_vit_b.npz",
        "wsisam_vit_t.npz",
        "wo_fp/",
    ):
        assert f"no {missing}" in run.stdout
