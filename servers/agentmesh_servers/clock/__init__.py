"""The time in the zones and cities of the world."""
