"""What a unit of work writes for partners and operators, in its own transaction."""
