"""What the pages of console and portal share: forms, lists, sessions, live parts."""
