"""The entries of a handoff: what the customs broker's answers say about each customs package."""
