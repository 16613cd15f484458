"""Training: `tasks` are what can be trained, `run` is the folder of a run. This file imports nothing: some
modules, such as run.ensemble, need no Jittor."""
