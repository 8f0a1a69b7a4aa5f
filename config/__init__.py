"""What may differ between two machines."""
