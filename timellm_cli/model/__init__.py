"""Time-LLM, in the order a window passes through it."""
