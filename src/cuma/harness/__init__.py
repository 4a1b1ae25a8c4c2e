"""lm-evaluation-harness (extra `lm-eval`): the model type "cuma", and surveys as tasks."""
