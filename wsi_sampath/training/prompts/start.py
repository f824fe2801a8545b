"""The WSI-SAM that a training starts from: a frozen SAM, and what it learns, at random or not."""

from __future__ import annotations

from pathlib import Path

from wsi_sampath.data.patches import PatchSet
from wsi_sampath.errors import WsiError
from wsi_sampath.models.checkpoints import file_sha256, load_weights, read_tensors
from wsi_sampath.models.described import model_spec, provenance_of
from wsi_sampath.models.origin import steps_since_random
from wsi_sampath.models.published.download import weights_file
from wsi_sampath.models.published.files import State, prefixed
from wsi_sampath.models.sam_path.importing import below
from wsi_sampath.models.shipped import bundled_models
from wsi_sampath.models.wsi_sam.importing import import_wsi_sam, random_wsi_sam, start_wsi_sam
from wsi_sampath.models.wsi_sam.network import WsiSam
from wsi_sampath.models.wsi_sam.spec import WsiSamSpec
from wsi_sampath.models.zoo import load_model, load_weighted
from wsi_sampath.training.initial_weights import Start, changed, check_random, is_specification
from wsi_sampath.training.prompts.settings import PromptTrainSettings, WsiSamWeights

_SAM = "sam."
_TRAINED = ".safetensors"


def start_prompts(settings: PromptTrainSettings, patches: PatchSet) -> Start[WsiSam]:
    """Build a WSI-SAM with its initial weights; random parts follow the seed.

    Raises
    ------
    UsageError
        If nothing says where the weights come from.
    WsiError
        ``bad-model`` for a model that is no WSI-SAM, and weights that are missing or do not fit.
    """
    spec = model_spec(settings.model)
    if not isinstance(spec, WsiSamSpec):
        message = "is not a WSI-SAM, which objective=prompts trains"
        raise WsiError("bad-model", message, subject=settings.model)
    spec = changed(spec, settings, patches)
    weights = settings.weights
    if isinstance(weights, WsiSamWeights):
        return _from_sam(spec, weights, settings.seed)
    if weights is not None:
        path = weights_file(weights)
        steps = steps_since_random(provenance_of(path))
        return Start(_wsi_sam(load_weighted(spec, path)), {"model": file_sha256(path)}, steps)
    if not is_specification(settings.model):
        before = load_model(settings.model)
        model = random_wsi_sam(spec, settings.seed)
        load_weights(model, _wsi_sam(before.module).state_dict(), subject=settings.model)
        steps = steps_since_random(provenance_of(settings.model))
        return Start(model, {"model": before.weights_sha256}, steps)
    check_random(settings, "weights.sam=FILE")
    return Start(random_wsi_sam(spec, settings.seed), {}, steps=0)


def _from_sam(spec: WsiSamSpec, weights: WsiSamWeights, seed: int) -> Start[WsiSam]:
    path = bundled_models().get(weights.sam) or weights_file(weights.sam)
    digests = {"sam": file_sha256(path)}
    if weights.high is not None and weights.low is not None:
        high, low = weights_file(weights.high), weights_file(weights.low)
        digests |= {"high": file_sha256(high), "low": file_sha256(low)}
        return Start(import_wsi_sam(path, spec, high=high, low=low).network, digests)
    if Path(path).suffix != _TRAINED:
        return Start(start_wsi_sam(path, spec, seed=seed), digests, steps=0)
    model = random_wsi_sam(spec, seed)
    learned = {name: one for name, one in model.state_dict().items() if not name.startswith(_SAM)}
    load_weights(model, prefixed(_SAM, _sam_of(path)) | learned, subject=weights.sam)
    return Start(model, digests, steps=0)


def _sam_of(path: Path) -> State:
    """Return the weights of the SAM that a trained model is, or has: a PathoSAM or a WSI-SAM."""
    state = read_tensors(path)[1]
    return below(state, _SAM) or state


def _wsi_sam(network: object) -> WsiSam:
    assert isinstance(network, WsiSam)
    return network
