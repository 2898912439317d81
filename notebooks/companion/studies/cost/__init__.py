"""What a method costs: exact counts of passes and numbers, measured steps, and quality per cost from recorded runs."""
