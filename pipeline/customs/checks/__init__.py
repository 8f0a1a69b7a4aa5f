"""What must hold of a plan before it is executed."""
