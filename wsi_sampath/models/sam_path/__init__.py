"""SAM-Path (arXiv 2307.09570): SAM with class prompts beside a pathology encoder."""
