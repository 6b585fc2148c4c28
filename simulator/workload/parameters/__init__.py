"""What a pipeline stage holds: parameters, model states, gradient buckets, bytes."""
