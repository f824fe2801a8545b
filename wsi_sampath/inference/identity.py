"""Which run this is: runs of equal identity give equal files, so one may go on for the other."""

from __future__ import annotations

from typing import Any

from wsi_sampath import __version__
from wsi_sampath.errors import WsiError
from wsi_sampath.inference.predictor import resolve_device, resolve_precision
from wsi_sampath.inference.settings import SegmentSettings, result_settings
from wsi_sampath.models.loaded import LoadedModel
from wsi_sampath.slides.slide import Slide

_PARTS = ("version", "model", "slide")


def identity(slide: Slide, model: LoadedModel, settings: SegmentSettings) -> dict[str, Any]:
    """Return what decides a result, as JSON values."""
    return {
        "version": __version__,
        "model": {"name": model.spec.name, "sha256": model.weights_sha256},
        "slide": {"name": slide.path.name, "fingerprint": slide.fingerprint()},
        "settings": {
            **result_settings(settings),
            "reader": slide.reader.name,
            "slide_mpp": [slide.mpp.x, slide.mpp.y],
            "precision": resolve_precision(settings.precision, resolve_device(settings.device)),
        },
    }


def check_same(before: dict[str, Any], now: dict[str, Any], *, subject: str) -> None:
    """Refuse to go on with, or to hand out, what another run made.

    Raises
    ------
    WsiError
        ``bad-input``, naming what differs.
    """
    different = [name for name in _PARTS if before.get(name) != now[name]]
    old, new = before.get("settings", {}), now["settings"]
    different += [
        f"{name} was {old.get(name)!r}, now {new.get(name)!r}"
        for name in sorted(set(old) | set(new))
        if old.get(name) != new.get(name)
    ]
    if different:
        raise WsiError(
            "bad-input",
            f"the output was begun with other settings ({', '.join(different)}); give --force to "
            "start anew, or choose another --out",
            subject=subject,
        )
