"""Metrics, baselines and the one code path that scores."""
