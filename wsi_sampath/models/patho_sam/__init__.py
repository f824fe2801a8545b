"""PathoSAM: every nucleus from SAM's encoder and a convolutional decoder."""
