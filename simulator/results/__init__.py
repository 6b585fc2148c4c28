"""What a timeline means: metrics, where the time goes, what fits in memory."""
