"""The folder of a run: states, averages, logs, plots. Imports nothing here: much of it needs no Jittor."""
