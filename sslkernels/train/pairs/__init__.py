"""Pairs as training data: who took what, and what is linked to what."""
