"""Measured kernels and the fits of the efficiency constants to them: ``python -m simulator.calibration``."""
