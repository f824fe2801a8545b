"""The identity of a run: runs of equal identity give equal files, so one may resume the other.

What is in files counts, never where they are or how their paths are spelt: weights, tissue mask and
slide stand for themselves by digests of their content.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_sampath.errors import OtherSettingsError, WsiError
from wsi_sampath.fingerprint import whole_digest
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.settings import deciding
from wsi_sampath.slides.slide import Slide
from wsi_sampath.version import __version__

if TYPE_CHECKING:
    from wsi_sampath.models.network import LoadedModel

_METHODS = ("otsu", "none")
# Of a specification: what it is called and what is told of it changes no pixel.
_TOLD = {"name", "description", "licence", "training_data"}
_CHANGED = {
    "version": "version was {old!r}, now {new!r}",
    "weights": "model has other weights",
    "specification": "model specification was edited",
    "slide": "slide was replaced by another",
    "tissue mask": "tissue mask was edited",
    "nuclei": "file of nuclei is another, or was edited",
}


def identity(slide: Slide, model: LoadedModel, settings: SegmentSettings) -> dict[str, Any]:
    """Return what decides a result, as JSON values, with the ``run_id`` that stands for all of it.

    Raises
    ------
    WsiError
        ``bad-input`` for a tissue mask that cannot be read, ``unreadable`` for such a slide.
    """
    # What is planned without a network needs no torch.
    from wsi_sampath.inference.predictor import resolve_precision
    from wsi_sampath.models.device import resolve_device

    who = {
        "version": __version__,
        "model": {
            "name": model.spec.name,
            "sha256": model.weights_sha256,
            "specification": specification_digest(model.spec),
        },
        "slide": {"name": slide.path.name, "fingerprint": slide.fingerprint()},
        "tissue_sha256": tissue_digest(settings),
        **_of_nuclei(settings),
        "settings": {
            **_deciding(settings, model.spec),
            **_spelt(settings, model),
            "reader": slide.reader.name,
            "slide_mpp": [slide.mpp.x, slide.mpp.y],
            "precision": resolve_precision(settings.precision, resolve_device(settings.device)),
        },
    }
    return {**who, "run_id": _run_id(who)}


def _deciding(settings: SegmentSettings, spec: ModelSpec) -> dict[str, Any]:
    """Return the settings that decide; how nuclei are found does so where there are any."""
    values = deciding(settings)
    for block in ("mode", "nuclei", "grid", "own_prompts"):
        del values[block]
    if spec.architecture != "patho_sam":
        return values
    return values | deciding(settings.nuclei) | _of_mode(settings)


def _of_mode(settings: SegmentSettings) -> dict[str, Any]:
    match settings.mode:
        case "ais":
            return {}
        case "amg":
            return {"mode": "amg", **deciding(settings.grid)}
        case "apg":
            return {"mode": "apg", **deciding(settings.own_prompts)}


def _of_nuclei(settings: SegmentSettings) -> dict[str, str]:
    if settings.existing is None:
        return {}
    return {"nuclei_sha256": _digest(settings.existing, "file of nuclei")}


def tissue_digest(settings: SegmentSettings) -> str | None:
    """Return the sha256 of the tissue mask's file; None where the mask is not a file.

    Raises
    ------
    WsiError
        ``bad-input`` where it cannot be read.
    """
    if settings.tissue in _METHODS:
        return None
    return _digest(settings.tissue, "tissue mask")


def _digest(file: str, what: str) -> str:
    try:
        return whole_digest(Path(file))
    except (OSError, ValueError) as error:
        message = f"cannot use this {what}: {getattr(error, 'strerror', None) or error}"
        raise WsiError("bad-input", message, subject=file) from None


def specification_digest(spec: ModelSpec) -> str:
    """Return a sha256 of what a specification says of the network, its classes and its input."""
    values = spec.model_dump(mode="json", exclude=_TOLD)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _spelt(settings: SegmentSettings, model: LoadedModel) -> dict[str, Any]:
    """Return the files as the user names them, for people; none of it decides."""
    own = model.source == settings.model
    return {
        "model": model.source,
        "weights": settings.weights if own else None,
        "tissue": settings.tissue,
    }


def _run_id(who: dict[str, Any]) -> str:
    text = json.dumps(_parts(who), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _parts(who: dict[str, Any]) -> dict[str, Any]:
    """Return what is compared, by the name that a user knows."""
    settings = {k: v for k, v in who["settings"].items() if k not in ("model", "weights", "tissue")}
    mask = who["tissue_sha256"]
    return {
        "version": who["version"],
        "weights": who["model"]["sha256"],
        "specification": who["model"]["specification"],
        "slide": who["slide"]["fingerprint"],
        "tissue": who["settings"]["tissue"] if mask is None else "mask",
        "tissue mask": mask,
        **({"nuclei": who["nuclei_sha256"]} if "nuclei_sha256" in who else {}),
        **settings,
    }


def is_same(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Return whether what another run made may stand for what this one would make."""
    return bool(before.get("run_id") == now["run_id"])


def is_replaced_slide(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Return whether another run was of a file of the same name that has another content now."""
    old, new = before.get("slide"), now["slide"]
    if not isinstance(old, dict) or "run_id" not in before:
        return False
    return bool(old.get("name") == new["name"] and old.get("fingerprint") != new["fingerprint"])


def check_same(before: dict[str, Any], now: dict[str, Any], *, subject: str) -> None:
    """Refuse to go on with, or to hand out, what another run made.

    Raises
    ------
    OtherSettingsError
        ``bad-input``, naming what differs.
    WsiError
        ``bad-input`` where it is nothing but the slide, of which the output is no result any more.
    """
    if is_same(before, now):
        return
    changed = _differences(before, now)
    if changed == [_CHANGED["slide"]]:
        message = (
            "the output was made from another file: the slide was replaced by another since; "
            "remove the output, or give --force, to have it analysed anew, or choose another --out"
        )
        raise WsiError("bad-input", message, subject=subject)
    raise OtherSettingsError(
        "bad-input",
        f"the output was begun with other settings ({', '.join(changed)}); give --force to start "
        "anew, or choose another --out",
        subject=subject,
    )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    try:
        old = _parts(before)
    except (KeyError, TypeError, AttributeError):
        return [
            f"it was made by another version of wsi-segment, {before.get('version', 'unknown')}"
        ]
    new = _parts(now)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if "tissue" in names and "tissue mask" in names:
        names.remove("tissue mask")
    said = [_said(name, old.get(name), new.get(name)) for name in names]
    return said or ["its record of itself is damaged"]


def _said(name: str, old: Any, new: Any) -> str:
    if name in _CHANGED:
        return _CHANGED[name].format(old=old, new=new)
    return f"{name} was {old!r}, now {new!r}"
