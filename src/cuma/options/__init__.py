"""What can be chosen, said once for everybody who reads it: recipes, and the method's own configuration. No torch."""
