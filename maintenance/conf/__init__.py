"""What the host decides: config.json, logging, secrets, the control database."""
