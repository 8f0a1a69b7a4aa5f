"""The simulated partners and the drill."""
