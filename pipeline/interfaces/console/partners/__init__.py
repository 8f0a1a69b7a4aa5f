"""The pages about partners: channels, secrets, examples, broker profiles and messages."""
