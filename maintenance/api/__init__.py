"""What machines call under /api/v1/; the contract is in docs/api.md."""
