"""What the notebooks run: one sub-package per study."""
