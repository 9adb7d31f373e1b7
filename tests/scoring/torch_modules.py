"""Modules of torch for tests; imported where torch is."""

from __future__ import annotations

import inspect
from typing import NamedTuple

import numpy as np
import torch


class TwoOutputs(torch.nn.Module):  # type: ignore[misc]
    """sigmoid(X · W + b), and a table's entry."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(width, classes)
        self.table = torch.nn.Parameter(torch.zeros(4))

    def forward(self, X, index):  # noqa: N803  as the model's input is called
        """Outputs by name."""
        return {"p": torch.sigmoid(self.dense(X)), "v": self.table[index]}


def with_weights(module, weights, bias, table):
    """The module with these numbers, for inference."""
    with torch.no_grad():
        module.dense.weight.copy_(torch.tensor(weights.T.copy()))
        module.dense.bias.copy_(torch.tensor(bias))
        module.table.copy_(torch.tensor(table))
    return module.eval()


class Pair(NamedTuple):
    """Two outputs with names."""

    twice: torch.Tensor
    sum: torch.Tensor


class Returns(torch.nn.Module):  # type: ignore[misc]
    """2 · X, and for most kinds the sum of each row, in one of the ways that a module may return them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, X):  # noqa: N803  as the model's input is called
        """As the kind says."""
        twice, total = X * 2, X.sum(dim=1)
        ways = {"tensor": twice, "tuple": (twice, total), "mapping": {"twice": twice, "sum": total}}
        return ways.get(self.kind, Pair(twice, total))


class Keywords(torch.nn.Module):  # type: ignore[misc]
    """The sum of each row where the mask is true, another input where it is not."""

    def forward(self, X, *, mask, half):  # noqa: N803  as the model's input is called
        """One output."""
        return torch.where(mask, X.sum(dim=1), half.float())


class Tied(torch.nn.Module):  # type: ignore[misc]
    """X · Wᵀ · Wᵀ + b, by two layers that share W."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = torch.nn.Linear(width, width, bias=False)
        self.second = torch.nn.Linear(width, width, bias=False)
        self.second.weight = self.first.weight
        self.bias = torch.nn.Parameter(torch.randn(width))

    def forward(self, X):  # noqa: N803  as the model's input is called
        """One output."""
        return self.second(self.first(X)) + self.bias


class InPlace(torch.nn.Module):  # type: ignore[misc]
    """2 · X, computed in the input, behind a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, X):  # noqa: N803  as the model's input is called
        """One output."""
        return self.dropout(X.mul_(2)) if torch.is_inference_mode_enabled() else X


class Keeps(torch.nn.Module):  # type: ignore[misc]
    """X + 1, of which it keeps the last."""

    last: torch.Tensor

    def forward(self, X):  # noqa: N803  as the model's input is called
        """One output."""
        Keeps.last = X + 1
        return Keeps.last


class Greedy(torch.nn.Module):  # type: ignore[misc]
    """X, and out of memory for more than two rows."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, X):  # noqa: N803  as the model's input is called
        """One output."""
        if len(X) > 2 and self.kind == "cuda":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if len(X) > 2 and self.kind == "cpu":
            return torch.empty(1 << 60)
        return torch.tensor(np.empty(1 << 55)) if len(X) > 2 else X


def names_of(module):
    """Names of the arguments of a module's forward."""
    return inspect.signature(module.forward).parameters
