"""Augmentation in Triton: imported when a tensor on a GPU first needs it."""
