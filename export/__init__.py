"""What will leave in a standard format: models and tables."""
