"""The experiments behind the notebooks: one sub-package per study, and beside them what several studies use."""
