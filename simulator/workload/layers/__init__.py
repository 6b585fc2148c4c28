"""What a layer does: kernels and collectives, forward and backward, and what they keep."""
