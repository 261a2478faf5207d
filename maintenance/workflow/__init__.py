"""The procedure: its table, the loop that walks it, journal, lease, recovery, steps."""
