"""Tiles to maps: networks, their specifications, checkpoints and the zoo of named models."""
