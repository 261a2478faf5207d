"""The audit chain: every operation signed, linked and checkpointed."""
