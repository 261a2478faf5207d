"""One file a step of the procedure; each asks the engine and returns one sentence."""
