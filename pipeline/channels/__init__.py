"""What is left of the channels until all have moved."""
