"""Data, training, evaluation and composed workflows."""
