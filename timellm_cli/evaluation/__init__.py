"""What a trained model forecasts, and how well: the one code path that scores, baselines, rolling forward."""
