"""How long each piece of work takes on this hardware with this software."""
