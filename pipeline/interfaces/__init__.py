"""The interfaces of the service: API, console, command line and published contracts."""
