"""The audit chain: every operation linked to the one before, signed and checkpointed."""
