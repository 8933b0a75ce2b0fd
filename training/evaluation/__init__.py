"""What a trained policy is worth: splits, metrics, baselines, overfitting, verdicts. Pure."""
