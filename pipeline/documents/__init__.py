"""One file a document kind."""
