"""The tariff by day: imported editions, their numbers, units of quantity and rates."""
