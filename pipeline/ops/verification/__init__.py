"""A bundle of documents held against itself."""
