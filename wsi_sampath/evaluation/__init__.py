"""Predictions scored against labels, on patches and on slides."""
