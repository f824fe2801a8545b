"""The parts of a slide that are analysed: found, drawn or given as a mask."""
