"""Prompts as people draw them in QuPath, and the masks that answer them, as files."""
