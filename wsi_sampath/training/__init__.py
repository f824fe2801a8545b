"""Labelled patches to checkpoints: augmentation, losses, metrics."""

from wsi_sampath.models.parts.torchvision_shim import ensure_torchvision_imports

# Before Lightning and torchmetrics, which import torchvision by themselves.
ensure_torchvision_imports()
