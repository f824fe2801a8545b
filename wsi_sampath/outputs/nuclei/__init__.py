"""Final nuclei: their outlines, what is measured of them, and the table that holds both."""
