"""Damage on PostgreSQL: finding what can still be read, and mending the rest."""
