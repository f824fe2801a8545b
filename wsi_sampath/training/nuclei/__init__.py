"""What a PathoSAM learns from: targets, losses and prompts of nuclei, and one step of training."""
