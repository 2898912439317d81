"""Scripts that measure; `make bench` runs each."""
