"""Notebook 06: AdaTask on synthetic tasks whose losses differ in scale."""
