"""Matrix products of a transformer's shard, and how long one takes on some of a GPU's multiprocessors.

A GPU computes a product in tiles, each on one multiprocessor (SM), so that it takes whole waves: with 80 tiles, 79 SMs
need twice the time of 80.  This is what makes the times of small batches jump when the share of the SMs changes.
NVIDIA, "Matrix Multiplication Background User's Guide", section "Wave Quantization".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from latency_models.catalogue.architectures import Architecture
from latency_models.errors import invalid

TILE = 128
"""Rows and columns of a tile; a product of few rows uses tiles of half the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixProduct:
    """Tokens x ``depth`` times ``depth`` x ``columns``, ``count`` times in a step."""

    columns: int
    depth: int
    count: int

    @property
    def weights(self) -> int:
        """Elements of the right-hand matrix."""
        return self.columns * self.depth

    def waves(self, rows: int, sms: int, half_tile_cost: float) -> float:
        """Waves of whole tiles that the product of ``rows`` tokens needs on ``sms`` multiprocessors.

        Parameters
        ----------
        rows : int
            Tokens.
        sms : int
            Multiprocessors.
        half_tile_cost : float
            Time of a tile of half the rows over that of a whole one; the cheaper of the two sizes is taken.
        """
        whole, halves = self._tiles(rows)
        return min(float(math.ceil(whole / sms)), half_tile_cost * math.ceil(halves / sms))

    def full_waves(self, rows: int, sms: int, half_tile_cost: float) -> float:
        """As :meth:`waves`, if the last wave took only the share of the time that it has of the tiles.

        This is how long ``sms`` multiprocessors are busy; the rest of the time some wait for the others.
        """
        whole, halves = self._tiles(rows)
        return min(float(whole), half_tile_cost * halves) / sms

    def _tiles(self, rows: int) -> tuple[int, int]:
        """Tiles of ``TILE`` rows, or of half as many."""
        across = -(-self.columns // TILE)
        return -(-rows // TILE) * across, -(-rows // (TILE // 2)) * across


def layer_products(architecture: Architecture, tp: int) -> tuple[MatrixProduct, ...]:
    """The products of all layers of one of ``tp`` shards: query-key-value, output, MLP up (and gate), MLP down.

    Parameters
    ----------
    architecture : Architecture
        The model.
    tp : int
        Shards, a divisor of its heads.

    Raises
    ------
    InputError
        If the model is a mixture of experts.
    """
    if architecture.moe_layers:
        raise invalid(
            "latency.model",
            architecture.name,
            "a model without experts",
            "Use the kinds operators or roofline for a mixture of experts",
        )
    hidden, layers = architecture.hidden, architecture.layers
    heads, kv_heads = architecture.heads // tp, max(architecture.kv_heads // tp, 1)
    width = -(-architecture.intermediate // tp)
    return (
        MatrixProduct(columns=architecture.head_dim * (heads + 2 * kv_heads), depth=hidden, count=layers),
        MatrixProduct(columns=hidden, depth=architecture.head_dim * heads, count=layers),
        MatrixProduct(columns=(2 if architecture.gated_mlp else 1) * width, depth=hidden, count=layers),
        MatrixProduct(columns=hidden, depth=width, count=layers),
    )


def head_product(architecture: Architecture, tp: int) -> MatrixProduct:
    """The LM head of one of ``tp`` shards."""
    return MatrixProduct(columns=-(-architecture.vocabulary // tp), depth=architecture.hidden, count=1)
