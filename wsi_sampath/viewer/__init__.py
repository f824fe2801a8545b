"""``wsi-view``: slides, results and prompts in a browser."""
