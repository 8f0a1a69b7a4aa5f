"""Tables rebuilt from the event log."""
