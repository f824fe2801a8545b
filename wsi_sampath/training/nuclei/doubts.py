"""What is doubtful about a training of PathoSAM before its first step."""

from __future__ import annotations

from wsi_sampath.data.patches import PatchSet
from wsi_sampath.models.patho_sam.spec import PathoSamSpec
from wsi_sampath.training.nuclei.settings import NucleiSettings
from wsi_sampath.training.start_report import Doubt


def nucleus_doubts(settings: NucleiSettings, patches: PatchSet, spec: PathoSamSpec) -> list[Doubt]:
    """Return doubts about the scale, where nobody stated one, and about decoders left behind.

    Patches of a known scale are brought to the model's.
    """
    doubts = []
    if patches.mpp is None and settings.mpp is None:
        line = (
            "warning: the pixel size of the patches is unknown; they are taken to be at the "
            f"{spec.mpp:g} um per pixel of the model, right or not: give mpp=..., or prepare them "
            "with --mpp"
        )
        doubts.append(Doubt(line, f"pixel size unknown, {spec.mpp:g} um per pixel assumed"))
    left = "nucleus decoder" if settings.objective == "classes" else "decoder of classes"
    if settings.trainable == "all" and (settings.objective == "classes" or spec.class_decoder):
        line = (
            f"warning: the encoder learns, and the {left} does not learn with it, so what that "
            "says gets worse; train it afterwards, with trainable=decoder"
        )
        doubts.append(Doubt(line, f"encoder trained without the {left}"))
    return doubts
