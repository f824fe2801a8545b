"""OME-Zarr pyramids."""
