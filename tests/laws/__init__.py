"""Laws that hold on random input."""
