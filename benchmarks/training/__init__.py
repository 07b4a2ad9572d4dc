"""Whole training steps: ours against scripts that a careful user would write."""
