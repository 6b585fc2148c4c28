"""How long each op of a step takes: layers, passes, buckets, messages, the end of the step, contention."""
