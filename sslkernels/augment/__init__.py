"""Augmentation: from images and a policy to views, exact, replayable and differentiable."""
