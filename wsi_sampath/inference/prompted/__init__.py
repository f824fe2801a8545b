"""Objects by asking a network for one after the other: by a grid of points, or by its own maps."""
