"""Numbers about runs: outcome, comparison, statistics, estimates. No HTML, no PDF."""
