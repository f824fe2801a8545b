"""Which parts of a slide are analysed: found, drawn or given as a mask."""
