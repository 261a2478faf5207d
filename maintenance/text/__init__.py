"""Sentences as they are stored and shown, labels, dates."""
