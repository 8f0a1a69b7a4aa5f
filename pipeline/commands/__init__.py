"""The commands of `exports`, one file a noun; pipeline/cli.py puts them together."""
