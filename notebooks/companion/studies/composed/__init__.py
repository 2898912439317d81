"""Notebook 09: HydaLearn and AdaTask composed, and AdaTask on gradients without conflicts."""
