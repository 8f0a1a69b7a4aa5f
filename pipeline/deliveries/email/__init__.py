"""The text and the attachments of e-mail messages."""
