"""The study of dense prediction (notebook 07)."""
