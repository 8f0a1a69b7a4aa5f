"""What operators need: migrations, retention, backup, audit, rebuild and verification."""
