"""The pages about people and keys: sign-in, own settings, audit trail."""
