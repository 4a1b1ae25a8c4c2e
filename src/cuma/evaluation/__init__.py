"""What a model says of people, and how far that is from what they say."""
