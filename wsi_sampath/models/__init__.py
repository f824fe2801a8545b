"""Tiles to logits: the networks, their specifications, checkpoints and the zoo of named models."""
