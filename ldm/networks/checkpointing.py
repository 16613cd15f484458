"""Gradient checkpointing: blocks keep their inputs alone, and are computed again in the backward pass.

Costs one more forward pass; what a training step keeps is then one activation a block, not some dozen.
"""
from ldm.backend import jt
from ldm.errors import UserError
from ldm.networks import autoencoder, dropout
from ldm.networks.attention import AttentionBlock
from ldm.networks.blocks import ResBlock
from ldm.networks.spade import SPADEResBlock
from ldm.values import CHECKPOINTING

BLOCKS = (ResBlock, AttentionBlock, autoencoder.Block, autoencoder.Attention)


class Recomputed(jt.Function):
    """One pass of block(*inputs), of Vars to a Var. Called with `parameters` after the inputs: Jittor hands
    gradients to arguments alone. Both computations drop the same activations: ldm/networks/dropout.py."""

    def __init__(self, block, parameters, dropouts):
        self.block, self.parameters, self.dropouts = block, parameters, dropouts

    def execute(self, *arguments):
        inputs = arguments[:len(arguments) - len(self.parameters)]
        self.fixed = [x.is_stop_grad() for x in inputs]
        self.inputs = [x.detach() for x in inputs]
        self.keys = [layer._keys for layer in self.dropouts]
        with jt.no_grad():
            return self.block(*self.inputs)

    def grad(self, above):
        """Without retain_graph=False and the detached results every recomputed graph would stay alive."""
        with jt.enable_grad(), dropout.using(self.dropouts, self.keys):
            inputs = [x.clone() for x in self.inputs]
            moving = [x.start_grad() for x, fixed in zip(inputs, self.fixed) if not fixed]
            product = self.block(*inputs).float32() * above.detach().float32()
            found = [g.detach() for g in jt.grad(product.sum(), [*moving, *self.parameters], False)]
        own = iter(found)
        return [None if fixed else next(own) for fixed in self.fixed] + list(own)


def recomputing(module, block):
    """`block`, a pass of `module`, as a function that saves memory where gradients are wanted."""
    parameters, dropouts = module.parameters(), dropout.layers(module)

    def run(*inputs):
        if jt.flags.no_grad:
            return block(*inputs)
        return Recomputed(block, parameters, dropouts)(*inputs, *parameters)
    return run


def apply(network, kind):
    """Let the blocks of `network` be recomputed in its backward passes ("blocks"), or nothing ("none").

    A SPADE block's modulations belong to what is recomputed: in training they are handed on as the map of
    which they are made.
    """
    if kind not in CHECKPOINTING:
        raise UserError("checkpointing", f"is {kind!r}", f"one of {', '.join(CHECKPOINTING)} is needed")
    for module in network.modules() if kind == "blocks" else ():
        if isinstance(module, SPADEResBlock):
            _defer_modulations(module)
        elif isinstance(module, BLOCKS):
            module.execute = recomputing(module, module.execute)


def _defer_modulations(block):
    execute, modulations = block.execute, block.modulations
    run = recomputing(block, lambda x, emb, one_hot: execute(x, emb, modulations(one_hot)))
    block.modulations = lambda one_hot: modulations(one_hot) if jt.flags.no_grad else one_hot
    block.execute = lambda x, emb, m: execute(x, emb, m) if jt.flags.no_grad else run(x, emb, m)
