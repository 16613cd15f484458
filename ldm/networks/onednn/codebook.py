"""A codebook for inference on the CPU: one pass over the entries, and no distance is kept in memory."""
from __future__ import annotations

from ldm.backend import Module, Var, jt
from ldm.networks.onednn.operators import check_shape, code

LANES = 16                  # as in codebook.h
FAR = 3e38                  # the square of the entries that fill up the last lanes


class Codebook:
    """An autoencoder.Quantizer: the same entries, those of equal distance by their place in the book."""

    def __init__(self, plain: Module) -> None:
        self._entries = plain.embedding.weight
        size, self._dim = self._entries.shape
        self._size = size + -size % LANES
        with jt.no_grad():
            fill = self._size - size
            columns, squares = self._entries.transpose(1, 0), (self._entries * self._entries).sum(1)
            if fill:
                columns = jt.concat([columns, jt.zeros((self._dim, fill))], 1)
                squares = jt.concat([squares, jt.full((fill,), FAR)])
            self._columns, self._squares = columns.sync(), squares.sync()

    def __call__(self, z: Var) -> Var:
        """z N x dim x h x w -> the nearest entries, the same shape. ValueError for another dim."""
        check_shape("the codebook's input", z, (None, self._dim, None, None))
        N, D, H, W = z.shape
        rows = z.transpose(0, 2, 3, 1).reshape(-1, D)
        source = f"iidm::nearest<{D}>(in0_p, in1_p, in2_p, out0_p, {rows.shape[0]}, {self._size});"
        codes = code([rows.shape[0]], [rows, self._columns, self._squares], "codebook.h", source, {}, "int32")
        return self._entries[codes].reshape(N, H, W, D).transpose(0, 3, 1, 2)
