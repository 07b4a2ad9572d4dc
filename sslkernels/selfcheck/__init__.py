"""`python -m sslkernels`: what this machine has, what runs on it, and whether it computes rightly.

Each operator runs forward and backward with every implementation that this machine can run, in
every dtype, against the dense definition in float64.
"""
