"""What a WSI-SAM learns from: objects in patches and their context, asked for by prompts."""
