"""Measurements for tools/benchmark.py: one module per report. The program itself does not use them."""
