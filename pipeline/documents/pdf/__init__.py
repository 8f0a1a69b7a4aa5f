"""The PDF engine, which runs in its own process."""
