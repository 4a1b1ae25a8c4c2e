"""Frozen language models: found by name, folder or Hub id, loaded, held in fewer bits, or behind a server."""
