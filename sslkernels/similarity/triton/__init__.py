"""The engine in Triton: NVIDIA GPUs from sm_80 on and AMD's matrix-core GPUs.

`import sslkernels` does not import this package: `sslkernels.operators` does when a tensor first
needs it, since importing Triton takes time and a CPU build of torch comes without it.
"""
