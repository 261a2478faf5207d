"""System checks: settings that would be unsafe, and what a production host needs."""
