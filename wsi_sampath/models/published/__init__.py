"""Published weights: where they are, and how their files are fetched and read."""
