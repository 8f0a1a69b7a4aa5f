"""The portal: the pages on which a partner looks after its own deliveries."""
