"""The forms of the pages and of the settings."""
