"""Loss functions, one a file."""
