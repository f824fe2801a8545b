"""Slide files: one reader per library, each checked against the file's own pages."""
