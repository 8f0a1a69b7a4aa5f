"""The soak: half an hour of load on the whole service while everything around it breaks, and what must hold all the same."""
