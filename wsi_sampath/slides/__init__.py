"""A slide file becomes tissue tiles: readers, mpp, tissue mask, grid, stream."""
