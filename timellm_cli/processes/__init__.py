"""Several processes that train or score together: who they are, how they start, what they exchange."""
