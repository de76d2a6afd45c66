"""The loop, its schedules and checkpoints. Yields records, prints nothing."""
