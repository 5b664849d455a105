"""What leaves in a standard format: models and tables."""
