"""What the pages of console and portal share: forms, lists, sessions, live parts, and the filters of their templates."""
