"""The soak: half an hour of load and faults on the whole service, and checks of every promise."""
