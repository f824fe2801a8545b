"""Labelled patches to a checkpoint: augmentation, loss, training loop, and what a run leaves."""

from wsi_sampath.models.parts.torchvision_shim import ensure_torchvision_imports

# Before any module here imports lightning, torchmetrics or torchvision.
ensure_torchvision_imports()
