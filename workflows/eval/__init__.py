"""Free-running evaluation through the whole loop."""
