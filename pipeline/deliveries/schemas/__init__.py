"""Messages and deliveries as others see them."""
