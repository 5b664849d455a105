"""From degrees to parts."""
