"""Logits become maps, streaming: predictor, blending, class maps, one whole run."""
