"""When everything happens: engines turn a Program and its Durations into a Timeline."""
