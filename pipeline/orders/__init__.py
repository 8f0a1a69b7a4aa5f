"""Products, orders and plan templates that an account syncs, and the plan that is built from them."""
