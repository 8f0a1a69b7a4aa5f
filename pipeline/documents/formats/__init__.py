"""One file per format of document."""
