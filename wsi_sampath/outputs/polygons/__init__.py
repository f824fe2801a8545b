"""Outlines of the regions of a label plane, traced strip by strip."""
