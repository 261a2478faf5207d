"""What is seen outside a run: monitoring, incidents, watch windows, health, privileges."""
