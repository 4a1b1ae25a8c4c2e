"""Who asks: profiles, the frozen encoder that reads them, and their embeddings."""
