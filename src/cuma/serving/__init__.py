"""Using what was trained: a scheduler that answers many people at once, an OpenAI-compatible server, a chat."""
