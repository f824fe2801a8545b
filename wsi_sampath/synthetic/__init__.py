"""Painted slides and tissue whose truth is known."""
