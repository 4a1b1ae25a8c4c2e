"""A run, an adapter or a model, ready to answer: every way to load one starts here."""
