"""Three maps become nuclei: the published post-processing, whole and strip by strip."""
