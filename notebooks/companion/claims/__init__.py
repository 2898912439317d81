"""What was registered, what came out, and the verdicts."""
