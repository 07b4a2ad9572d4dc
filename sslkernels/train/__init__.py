"""Reference systems for self-supervised learning, on the losses of this package.

A method is one short file in `methods`; data, loop, evaluation and logs are shared.
"""
