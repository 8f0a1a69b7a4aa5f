"""The PDF engine, in a process of its own."""
