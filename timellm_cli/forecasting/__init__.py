"""From a checkpoint and a history to a dated forecast: what `timellm predict` and `Forecaster` share."""
