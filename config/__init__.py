"""Settings, queues, logs and the rules of customs."""
