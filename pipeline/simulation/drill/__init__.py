"""The drill: a scratch instance is killed at random under load, and a judge reports lost and duplicated work."""
