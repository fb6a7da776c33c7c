"""The training curve: the loss terms of every step, averaged over epochs or stretches of steps."""

from typing import Literal, TypedDict

import pandas as pd
import torch
from torch import Tensor

from stages.pipeline.files import write_csv


class HistoryState(TypedDict):
    """What resuming a history needs."""

    rows: list[dict[str, float]]
    pending: list[Tensor]


class History:
    """Rows of a training curve, and the loss terms of the steps since the last row.

    On a GPU the terms stay there, so that the CPU need not wait for it.

    Attributes:
        rows: One row per epoch or stretch of steps: its number, the mean `loss`, the mean of each term, and the
            `learning_rate` of its last step.
        names: Names of the loss terms.
        pending: (terms,) losses of each step since the last row.
    """

    def __init__(self, unit: Literal["epoch", "step"], device: torch.device) -> None:
        """Create an empty history.

        Args:
            unit: What a row is numbered by.
            device: Device of the losses.
        """
        self.rows: list[dict[str, float]] = []
        self.names: list[str] = []
        self.pending: list[Tensor] = []
        self._unit, self._device = unit, device

    def add(self, terms: dict[str, Tensor]) -> None:
        """Record the loss terms of a step."""
        self.names = list(terms)
        self.pending.append(torch.stack([term.detach().float() for term in terms.values()]))

    def close_row(self, step: int, learning_rate: float) -> dict[str, float]:
        """Average the pending steps into a row, and return it.

        Args:
            step: Number of the last step, from 0.
            learning_rate: Learning rate of the last step.
        """
        values = torch.stack(self.pending).double().cpu().numpy()
        row: dict[str, float] = {self._unit: len(self.rows) + 1 if self._unit == "epoch" else step + 1}
        row |= {"loss": float(values.sum(1).mean())}
        row |= {name: float(value) for name, value in zip(self.names, values.mean(0), strict=True)}
        self.rows.append(row | {"learning_rate": learning_rate})
        self.pending.clear()
        return row

    def state_dict(self) -> HistoryState:
        """Return the rows and the pending losses."""
        return {"rows": self.rows, "pending": self.pending}

    def load_state_dict(self, state: HistoryState) -> None:
        """Restore what `state_dict` returned."""
        self.rows = state["rows"]
        self.pending = [losses.to(self._device) for losses in state["pending"]]


def write_history(stage: str, rows: list[dict[str, float]]) -> None:
    """Write a training curve to `plots/history/<stage>.csv`."""
    write_csv(pd.DataFrame(rows).round(6), f"plots/history/{stage}.csv")
