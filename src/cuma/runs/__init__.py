"""Runs on disk: the folder, the evidence that its evaluations left, and the machine that it was made on."""
