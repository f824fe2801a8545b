"""WSI-SAM: SAM with a second look from twice as far."""
