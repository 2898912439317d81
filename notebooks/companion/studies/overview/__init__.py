"""What the front door shows: each method in one picture, and all verdicts in one."""
