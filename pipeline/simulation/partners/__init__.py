"""Partners' ends on loopback to try the connection test against: each kind does everything right, or one thing wrong."""
