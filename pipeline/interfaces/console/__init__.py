"""The console: web pages for operators."""
