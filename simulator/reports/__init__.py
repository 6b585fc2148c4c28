"""Show me: text tables, figures and traces of results. Reads Results and Timelines, computes nothing new."""
