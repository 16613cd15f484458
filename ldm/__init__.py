"""IIDM on Jittor. Importing this package imports nothing else: Jittor is loaded by the rooms that need it."""
