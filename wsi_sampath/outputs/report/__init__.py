"""The report of a slide: one page with its picture and figures."""
