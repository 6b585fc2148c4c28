"""What training reaches of isolated kernels: constants fitted together to all published runs.

Isolated kernels and collectives were measured alone and settled. What only whole steps show is fitted here,
one number per GPU and number format or per software stack, each with a physical meaning (``constants``). All
are fitted at once: a run that says little about one constant leaves it to the others.
"""
