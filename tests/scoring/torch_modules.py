"""Modules of torch for tests; imported where torch is."""

from __future__ import annotations

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
