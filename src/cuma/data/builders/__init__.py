"""Published corpora, and your own data, become folders in TRL's columns, split by person."""
