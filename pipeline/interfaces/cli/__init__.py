"""The commands of `exports`, one file a noun; pipeline/interfaces/cli/main.py combines them."""
