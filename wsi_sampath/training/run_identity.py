"""What decides the weights of a training: two with the same may go on from each other."""

from __future__ import annotations

import hashlib
from typing import Any

from wsi_sampath.data.patches import PatchSet
from wsi_sampath.models.origin import CLAIMS
from wsi_sampath.training.initial_weights import Start
from wsi_sampath.training.settings import TrainSettings, deciding


def identity_of(settings: TrainSettings, patches: PatchSet, start: Start) -> dict[str, Any]:
    """Return all that decides the weights, as plain JSON values.

    Names of folders are left out, also that of the data in what the model says of itself: what is
    in files counts, not where they are.
    """
    return {
        "settings": deciding(settings),
        "model": start.model.spec.model_dump(mode="json", exclude=set(CLAIMS)),
        "data_sha256": data_sha256(patches),
        "start": start.digests or "random",
    }


def data_sha256(patches: PatchSet) -> str:
    """Return a digest of the patches to train on and to validate with, in hexadecimal.

    It notices every change of ``classes.yaml``, ``patches.csv`` and a mask's file, and an image of
    another size in bytes or under another name. What it does not notice is an image replaced by one
    of just as many bytes (as pixels edited in an uncompressed file): that would mean reading all
    images before every start. Patches of the test split decide nothing and are left out.
    """
    digest = hashlib.sha256()
    for name in ("classes.yaml", "patches.csv"):
        _add(digest, (patches.root / name).read_bytes())
    for patch in (*patches.split("train"), *patches.split("validation")):
        image = patches.image_path(patch.img_id)
        _add(digest, f"{image.name} {image.stat().st_size}".encode())
        _add(digest, patches.mask_path(patch.img_id).read_bytes())
    return digest.hexdigest()


def _add(digest: hashlib._Hash, content: bytes) -> None:
    """Add content and its length, so that no two lists of contents look alike."""
    digest.update(len(content).to_bytes(8, "little"))
    digest.update(content)
