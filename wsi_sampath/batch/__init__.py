"""Many slides: finding them, and running them one by one."""
