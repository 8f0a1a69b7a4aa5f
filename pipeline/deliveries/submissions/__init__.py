"""A broker's answers: how they are asked for, checked and recorded."""
