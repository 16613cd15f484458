"""Measurements: each room makes one report for tools/benchmark.py. They are no part of the program."""
