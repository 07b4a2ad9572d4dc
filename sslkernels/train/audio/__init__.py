"""Sounds as training data."""
