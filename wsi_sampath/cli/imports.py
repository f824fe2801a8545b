"""What ``wsi-models import`` is asked for, and the networks it makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from wsi_sampath.errors import UsageError
from wsi_sampath.settings import Flags, Frozen, Help

if TYPE_CHECKING:
    from wsi_sampath.models.build import AnyNetwork
    from wsi_sampath.models.patho_sam.network import PathoSam
    from wsi_sampath.models.patho_sam.spec import PathoSamSpec
    from wsi_sampath.models.plain_sam.network import PlainSam
    from wsi_sampath.models.plain_sam.spec import PlainSamSpec
    from wsi_sampath.models.sam_path.network import SamPath
    from wsi_sampath.models.sam_path.spec import SamPathSpec
    from wsi_sampath.models.wsi_sam.network import WsiSam
    from wsi_sampath.models.wsi_sam.spec import WsiSamSpec

_PARTS = ("hipt", "decoder", "class_decoder", "high", "low")
"""Options that only some architectures have."""


class ImportRequest(Frozen):
    """The options of ``wsi-models import``."""

    spec: Annotated[Path, Help("YAML that describes the model.")]
    out: Annotated[Path, Flags("--out", "-o"), Help("The .safetensors to write.")]
    sam: Annotated[
        str | None,
        Help(
            "SAM's weights, for a new SAM-Path, a WSI-SAM, or with --decoder: a file or a name. "
            "MobileSAM's, where the YAML says so."
        ),
    ] = None
    hipt: Annotated[
        str | None,
        Flags("--hipt", "--pathology"),
        Help("Pathology encoder of a new SAM-Path: HIPT, a timm state."),
    ] = None
    decoder: Annotated[str | None, Help("PathoSAM's nucleus decoder, beside --sam.")] = None
    class_decoder: Annotated[
        str | None, Help("PathoSAM's decoder of classes, if the YAML has one.")
    ] = None
    high: Annotated[
        str | None, Help("WSI-SAM's net_high.pth, of the high resolution, beside --sam.")
    ] = None
    low: Annotated[str | None, Help("WSI-SAM's net_low.pth, of the low resolution.")] = None
    seed: Annotated[int, Help("Seed for what is random in a new model.")] = 0
    half: Annotated[bool, Flags("--half"), Help("Store float16 in place of float32.")] = False
    description: Annotated[str | None, Help("What the model is, over what the YAML says.")] = None
    licence: Annotated[str | None, Help("Licence of the weights, over what the YAML says.")] = None


def imported(request: ImportRequest, file: Path | None) -> tuple[AnyNetwork, str]:
    """Return the network that is asked for, and how it came about, as JSON.

    Raises
    ------
    UsageError
        For options that do not go together.
    WsiError
        ``bad-model`` for files that are missing, of another kind, or do not fit.
    """
    from wsi_sampath.models.origin import with_claims
    from wsi_sampath.models.parse import spec_from_yaml
    from wsi_sampath.models.patho_sam.spec import PathoSamSpec
    from wsi_sampath.models.plain_sam.spec import PlainSamSpec
    from wsi_sampath.models.sam_path.spec import SamPathSpec
    from wsi_sampath.models.wsi_sam.spec import WsiSamSpec
    from wsi_sampath.models.zoo import unclaimed

    _check(request, file)
    spec = unclaimed(spec_from_yaml(request.spec))
    spec = with_claims(spec, request.description, request.licence)
    match spec:
        case SamPathSpec():
            _refuse_others(request, f"'{spec.name}' is a SAM-Path", "hipt")
            return _sam_path(spec, file, request)
        case PathoSamSpec():
            _refuse_others(request, f"'{spec.name}' is a PathoSAM", "decoder", "class_decoder")
            return _patho_sam(spec, file, request), ""
        case PlainSamSpec():
            _refuse_others(request, f"'{spec.name}' is a SAM")
            return _plain_sam(spec, file, request), ""
        case WsiSamSpec():
            _refuse_others(request, f"'{spec.name}' is a WSI-SAM", "high", "low")
            return _wsi_sam(spec, file, request)


def _check(request: ImportRequest, file: Path | None) -> None:
    if (file is None) == (request.sam is None):
        raise UsageError("give either the file of a trained model, or --sam (see --help)")
    check_target("--out", request.out, ".safetensors")


def check_target(option: str, path: Path, suffix: str) -> None:
    """Refuse a file to be written that has another suffix, or no folder to lie in.

    Raises
    ------
    UsageError
        Naming the option.
    """
    if path.suffix != suffix:
        raise UsageError(f"{option} must end in {suffix}", subject=str(path))
    if not path.parent.is_dir():
        raise UsageError("its folder does not exist", subject=str(path))


def _refuse_others(request: ImportRequest, why: str, *meant: str) -> None:
    """Refuse options that mean nothing for a model."""
    for name in _PARTS:
        if name not in meant and getattr(request, name) is not None:
            raise UsageError(f"{why}, for which --{name.replace('_', '-')} means nothing")


def _sam_path(spec: SamPathSpec, file: Path | None, request: ImportRequest) -> tuple[SamPath, str]:
    """Return a SAM-Path, trained or new, and its provenance."""
    from wsi_sampath.models.origin import provenance_of_start
    from wsi_sampath.models.published.download import weights_file
    from wsi_sampath.models.sam_path.importing import import_sam_path
    from wsi_sampath.models.sam_path.start import RANDOM_PARTS, start_sam_path

    if file is not None:
        if request.hipt is not None:
            raise UsageError("--hipt goes with --sam: a trained SAM-Path has its pathology encoder")
        return import_sam_path(file, spec), ""
    pathology = None if request.hipt is None else weights_file(request.hipt)
    model = start_sam_path(spec, weights_file(request.sam or ""), pathology, seed=request.seed)
    return model, provenance_of_start(RANDOM_PARTS)


def _patho_sam(spec: PathoSamSpec, file: Path | None, request: ImportRequest) -> PathoSam:
    from wsi_sampath.models.patho_sam.importing import import_patho_sam
    from wsi_sampath.models.published.download import weights_file

    given = (request.decoder, request.class_decoder)
    nuclei, classes = (one and weights_file(one) for one in given)
    return import_patho_sam(
        file or weights_file(request.sam or ""), spec, decoder=nuclei, class_decoder=classes
    )


def _plain_sam(spec: PlainSamSpec, file: Path | None, request: ImportRequest) -> PlainSam:
    from wsi_sampath.models.plain_sam.importing import import_plain_sam
    from wsi_sampath.models.published.download import weights_file

    return import_plain_sam(file or weights_file(request.sam or ""), spec)


def _wsi_sam(spec: WsiSamSpec, file: Path | None, request: ImportRequest) -> tuple[WsiSam, str]:
    """Return a WSI-SAM, trained or new, and its provenance."""
    from wsi_sampath.cli.progress import say
    from wsi_sampath.models.origin import provenance_of_start
    from wsi_sampath.models.published.download import weights_file
    from wsi_sampath.models.wsi_sam.importing import RANDOM_PARTS, import_wsi_sam, start_wsi_sam

    if file is not None:
        message = "a WSI-SAM comes in three files: give --sam, --high and --low"
        raise UsageError(message, subject=str(file))
    if (request.high is None) != (request.low is None):
        raise UsageError("--high and --low go together")
    sam = weights_file(request.sam or "")
    if request.high is None or request.low is None:
        return start_wsi_sam(sam, spec, seed=request.seed), provenance_of_start(RANDOM_PARTS)
    high, low = weights_file(request.high), weights_file(request.low)
    made = import_wsi_sam(sam, spec, high=high, low=low)
    for doubt in made.doubts:
        say(f"warning: {doubt}")
    return made.network, ""
