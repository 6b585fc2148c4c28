"""Many scenarios at once: step times and peak memory as columns."""
