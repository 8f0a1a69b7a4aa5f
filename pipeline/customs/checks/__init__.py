"""The customs checks of a plan before it is executed."""
