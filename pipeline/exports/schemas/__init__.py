"""What an export looks like from outside."""
