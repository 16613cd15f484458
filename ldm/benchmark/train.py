"""How fast the U-Net trains, and in how much memory: optimiser steps on random latents."""
from ldm.benchmark.clock import machine
from ldm.platform import runtime
from ldm.training.trial_run import trial_run


def measure(config, repeats):
    """The report of `repeats` optimiser steps as the config's `training` says, after one that compiles."""
    runtime.check_precision(config["training"]["precision"], "training.precision")
    options = config["training"]
    taken = trial_run(config, 1 + repeats)
    row = {"parameters": taken["parameters"], "batch": taken["batch_size"],
           "micro-batch": options["micro_batch"] or taken["batch_size"],
           "checkpointing": options["checkpointing"], "precision": options["precision"],
           "s a step": taken["seconds"],
           "samples a second": taken["batch_size"] / taken["seconds"], "peak GB": taken["peak_gb"]}
    return {"machine": machine(), "tables": [{"title": f"Training, median of {repeats} steps",
                                               "rows": [row]}]}
