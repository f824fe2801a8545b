"""Labelled patches: prepared from data sets and drawn annotations, and read for training."""
