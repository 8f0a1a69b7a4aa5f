"""What a commercial invoice says, before it has a format."""
