"""Maps to files: OME-Zarr pyramids, polygons and QuPath GeoJSON."""
