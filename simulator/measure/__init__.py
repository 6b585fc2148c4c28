"""Kernels on the GPU at hand beside what the simulator says of them; needs the user's own PyTorch."""
