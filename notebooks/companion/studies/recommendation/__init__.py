"""Notebook 08: AdaTask on recommendation data, with mis-scaled and balanced losses, three optimizers, two networks."""
