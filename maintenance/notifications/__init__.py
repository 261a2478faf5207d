"""What people are told of a run, and how it reaches them."""
