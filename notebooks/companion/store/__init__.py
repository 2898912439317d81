"""Where things lie, and files that appear whole or not at all."""
