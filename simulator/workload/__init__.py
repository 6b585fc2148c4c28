"""What work each rank does, in which order, waiting for whom: FLOPs and bytes, no seconds."""
