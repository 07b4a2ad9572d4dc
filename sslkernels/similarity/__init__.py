"""The engine: log-sum-exp over logits that are never stored."""
