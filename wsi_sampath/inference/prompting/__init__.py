"""Objects of a slide that someone points at: fields, a cache of what was seen, answers."""
