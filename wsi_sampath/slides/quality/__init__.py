"""Quality of a slide at a glance: focus, marker strokes, colours."""
