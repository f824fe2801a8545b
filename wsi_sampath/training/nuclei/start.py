"""The PathoSAM that a training starts from, fitted to its classes."""

from __future__ import annotations

from wsi_sampath.data.patches import PatchSet
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.models.checkpoints import file_sha256, read_tensors
from wsi_sampath.models.described import model_spec, provenance_of
from wsi_sampath.models.origin import steps_since_random
from wsi_sampath.models.patho_sam.network import PathoSam
from wsi_sampath.models.patho_sam.spec import PathoSamSpec
from wsi_sampath.models.patho_sam.start import (
    is_partly_random,
    published_parts,
    random_patho_sam,
    start_patho_sam,
)
from wsi_sampath.models.published.download import weights_file
from wsi_sampath.models.published.files import State
from wsi_sampath.models.zoo import load_model
from wsi_sampath.training.initial_weights import Start, changed, check_random, is_specification
from wsi_sampath.training.nuclei.settings import NucleiSettings, PathoSamWeights


def start_nuclei(settings: NucleiSettings, patches: PatchSet) -> Start[PathoSam]:
    """Build a PathoSAM with its initial weights; random parts follow the seed.

    Raises
    ------
    UsageError
        If nothing says where the weights come from, or the model or the data lack what is to be
        learned.
    WsiError
        ``bad-model`` for weights that are missing or do not fit.
    """
    spec = nucleus_spec_for(settings, patches)
    if not patches.has_nuclei:
        message = "has no nuclei (inst), which a PathoSAM learns; see: wsi-prepare nuclei --help"
        raise UsageError(message, subject=str(patches.root))
    weights = settings.weights
    if isinstance(weights, PathoSamWeights):
        files = {role: weights_file(name) for role, name in weights.given.items()}
        digests = {role: file_sha256(path) for role, path in files.items()}
        return _started(spec, settings, published_parts(**files), digests, weights.sam)
    if weights is not None:
        path = weights_file(weights)
        digests = {"model": file_sha256(path)}
        return _started(spec, settings, read_tensors(path)[1], digests, str(path))
    if not is_specification(settings.model):
        return _going_on(spec, settings)
    check_random(settings, "weights.sam=FILE (and weights.decoder=FILE)")
    return Start(random_patho_sam(spec, settings.seed), {}, steps=0)


def nucleus_spec_for(settings: NucleiSettings, patches: PatchSet) -> PathoSamSpec:
    """Return the specification of the PathoSAM to train.

    Raises
    ------
    UsageError
        If settings and data do not make a valid one.
    WsiError
        ``bad-model`` for a model that is not a PathoSAM.
    """
    spec = model_spec(settings.model)
    if not isinstance(spec, PathoSamSpec):
        message = "is not a PathoSAM, for which alone 'objective' means anything"
        raise WsiError("bad-model", message, subject=settings.model)
    if settings.objective == "classes" and not spec.class_decoder:
        message = "has no decoder of classes (class_decoder: true), which objective=classes trains"
        raise UsageError(message, subject=settings.model)
    return changed(spec, settings, patches)


def _going_on(spec: PathoSamSpec, settings: NucleiSettings) -> Start[PathoSam]:
    trained = load_model(settings.model)
    before = trained.spec
    if before.tile != spec.tile:
        message = (
            f"was trained on tiles of {before.tile} px, which a PathoSAM keeps; leave tile away"
        )
        raise UsageError(message, subject=settings.model)
    assert isinstance(trained.module, PathoSam)
    digests = {"model": trained.weights_sha256}
    return _started(spec, settings, trained.module.state_dict(), digests, settings.model)


def _started(
    spec: PathoSamSpec,
    settings: NucleiSettings,
    state: State,
    digests: dict[str, str],
    subject: str,
) -> Start[PathoSam]:
    model = start_patho_sam(
        spec, state, seed=settings.seed, class_start=settings.class_start, subject=subject
    )
    # A new decoder is as doubtful as a new network, whatever its encoder has seen.
    steps = 0 if is_partly_random(spec, state) else steps_since_random(provenance_of(subject))
    return Start(model, digests, steps)
