"""Damage on MariaDB and MySQL: finding what can still be read, and saving it."""
