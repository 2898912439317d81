"""Notebook 02: HydaLearn's weights on synthetic problems whose truth is known."""
