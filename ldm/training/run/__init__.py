"""The folder of a run: states, averages, logs, plots. Imports nothing: most of it needs no Jittor."""
