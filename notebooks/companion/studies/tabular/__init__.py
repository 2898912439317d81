"""Notebooks 03 and 04: HydaLearn on tabular data with a main task and auxiliaries."""
