"""What the documents hold."""
