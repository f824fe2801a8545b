"""Labelled patches to checkpoints: augmentation, losses, metrics."""
