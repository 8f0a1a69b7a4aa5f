"""What callers may say, and what we say back."""
