"""A slide and its results in a browser: one local server and one page."""
