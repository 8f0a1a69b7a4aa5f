"""Infrastructure: it knows nothing of exports, partners or customs."""
