"""The models of the documents and of broker profiles."""
