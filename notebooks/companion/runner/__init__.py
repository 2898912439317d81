"""Running, checking and recording notebooks."""
