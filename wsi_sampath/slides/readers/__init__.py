"""Slide files opened: one reader per library, each held against the file's own pages."""
