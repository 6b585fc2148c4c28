"""What every rank does in a training step, waiting for whom."""
