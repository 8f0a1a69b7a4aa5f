"""The verification of a bundle of documents, without a database."""
