"""Training on TRL's trainers, with profiles."""
