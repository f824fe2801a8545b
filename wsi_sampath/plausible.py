"""What is believed of a slide or a model before anything else is known."""

from __future__ import annotations

PLAUSIBLE_MPP = (0.05, 20.0)
"""Microns per pixel; beyond it, a number is in another unit or a mistake."""
