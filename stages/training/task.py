"""What is trained: a module that turns the next batch into named loss terms and owns everything that a step changes."""

from typing import TypedDict

import torch
from torch import Tensor, nn

from stages.models.batches import ShuffledBatches
from stages.pipeline.errors import UserError


class ExtraState(TypedDict):
    """What a task's state holds besides tensors of modules."""

    generator: Tensor
    batches: list[dict[str, Tensor | int]]
    compiled: bool


class Task(nn.Module):
    """Base class of what `fit` trains.

    A subclass holds its networks, moving averages and thresholds as submodules, so that saving and resuming a task is
    one `state_dict`. Parameters that require no gradient are kept but not trained.

    Attributes:
        generator: Random generator of everything that a step draws.
        compiled: Whether the task is compiled. Compiled and eager code round differently, so neither resumes a run
            that the other began.
    """

    compiled: bool = False

    def __init__(self, generator: torch.Generator, *batches: ShuffledBatches) -> None:
        """Create the task.

        Args:
            generator: Random generator of everything that a step draws.
            batches: Order of the images of each kind.
        """
        super().__init__()
        self.generator = generator
        self._batches = batches

    def loss_terms(self, step: int) -> dict[str, Tensor]:
        """Return the weighted loss terms of the next batch as scalars; their sum is minimised.

        Args:
            step: Number of steps before this one.
        """
        raise NotImplementedError

    def after_step(self) -> None:
        """Update what follows the weights, after each optimizer step."""

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that are trained."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def get_extra_state(self) -> ExtraState:
        """Return what `state_dict` holds besides tensors of modules."""
        return {
            "generator": self.generator.get_state(),
            "batches": [batches.state_dict() for batches in self._batches],
            "compiled": self.compiled,
        }

    def set_extra_state(self, state: ExtraState) -> None:
        """Restore what `get_extra_state` returned.

        Raises:
            UserError: It is of a compiled task and this one is not compiled, or the reverse.
        """
        if state["compiled"] != self.compiled:
            ways = {True: "compiled", False: "not compiled"}
            raise UserError(
                f"the interrupted training was {ways[state['compiled']]}, and here it would be {ways[self.compiled]}, "
                "which rounds differently: restore the compiler as it was and run again, or start over after "
                "`make clean-scratch`"
            )
        self.generator.set_state(state["generator"])
        for batches, remembered in zip(self._batches, state["batches"], strict=True):
            batches.load_state_dict(remembered)
