"""The product: what is true, and what happens next."""
