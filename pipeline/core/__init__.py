"""Infrastructure that knows nothing of exports, partners or customs."""
