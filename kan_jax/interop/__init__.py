"""Models that other libraries trained."""
