"""Messages to partners, from the outbox to the attempt."""
