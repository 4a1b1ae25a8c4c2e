"""What protects people: the rule about small groups, and the secret under which personal texts are hashed."""
