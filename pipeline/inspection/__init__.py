"""What can be looked at: the view of an export, lists of exports, the log, and documents."""
