"""Gradient checkpointing: blocks keep only their inputs, and are computed again in the backward pass.

This costs one more forward pass. A training step then keeps one activation per block instead of a dozen.
"""
from __future__ import annotations

from typing import Callable, Sequence

from ldm.backend import Module, Var, jt
from ldm.errors import UserError
from ldm.networks import autoencoder, dropout
from ldm.networks.attention import AttentionBlock
from ldm.networks.blocks import ResBlock
from ldm.networks.spade import SPADEResBlock
from ldm.values import CHECKPOINTING

BLOCKS = (ResBlock, AttentionBlock, autoencoder.Block, autoencoder.Attention)


class Recomputed(jt.Function):
    """One pass of block(*inputs), of Vars to a Var. It is called with `parameters` after the inputs, since
    Jittor gives gradients only to arguments. Both computations drop the same activations (see dropout.py)."""

    def __init__(self, block: Callable[..., Var], parameters: Sequence[Var],
                 dropouts: Sequence[dropout.Dropout]) -> None:
        self.block, self.parameters, self.dropouts = block, parameters, dropouts

    def execute(self, *arguments: Var) -> Var:
        inputs = arguments[:len(arguments) - len(self.parameters)]
        self.fixed = [x.is_stop_grad() for x in inputs]
        self.inputs = [x.detach() for x in inputs]
        self.keys = [layer._keys for layer in self.dropouts]
        with jt.no_grad():
            return self.block(*self.inputs)

    def grad(self, above: Var) -> Var:
        """Without retain_graph=False and the detached results every recomputed graph would stay in memory."""
        with jt.enable_grad(), dropout.using(self.dropouts, self.keys):
            inputs = [x.clone() for x in self.inputs]
            moving = [x.start_grad() for x, fixed in zip(inputs, self.fixed) if not fixed]
            product = self.block(*inputs).float32() * above.detach().float32()
            found = [g.detach() for g in jt.grad(product.sum(), [*moving, *self.parameters], False)]
        own = iter(found)
        return [None if fixed else next(own) for fixed in self.fixed] + list(own)


def recomputing(module: Module, block: Callable[..., Var]) -> Callable[..., Var]:
    """`block`, a pass of `module`, as a function that saves memory if gradients are needed."""
    parameters, dropouts = module.parameters(), dropout.layers(module)

    def run(*inputs):
        if jt.flags.no_grad:
            return block(*inputs)
        return Recomputed(block, parameters, dropouts)(*inputs, *parameters)
    return run


def apply(network: Module, kind: str) -> None:
    """Let the blocks of `network` be recomputed in its backward passes ("blocks"), or nothing ("none").

    A SPADE block's modulations are recomputed too: in training the block gets the label map in their place.
    """
    if kind not in CHECKPOINTING:
        raise UserError("checkpointing", f"is {kind!r}", f"choose {' or '.join(CHECKPOINTING)}")
    for module in network.modules() if kind == "blocks" else ():
        if isinstance(module, SPADEResBlock):
            _defer_modulations(module)
        elif isinstance(module, BLOCKS):
            module.execute = recomputing(module, module.execute)        # type: ignore[method-assign]


def _defer_modulations(block: Module) -> None:
    execute, modulations = block.execute, block.modulations
    run = recomputing(block, lambda x, emb, one_hot: execute(x, emb, modulations(one_hot)))
    block.modulations = lambda one_hot: modulations(one_hot) if jt.flags.no_grad else one_hot
    block.execute = lambda x, emb, m: execute(x, emb, m) if jt.flags.no_grad else run(x, emb, m)
