"""What a worker keeps of a trial at its rungs, in the folder of its search's weights: the state of its training, from
which any worker goes on, and its weights, which are a model already.

Nothing is kept that takes much of the disk (as the state of full fine-tuning may), nor in folders that other searches
may share. A disk that is full costs what was to be kept, and not the trial; unless that has reached its end.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from autopeft.artifacts import Description, save_artifact
from autopeft.methods.passes import evaluating
from autopeft.searching.device_errors import Fault, fault_of
from autopeft.searching.marks import clear_leftovers, has_mark
from autopeft.searching.whereabouts import state_of, weights_of
from autopeft.training.model import TaskModel
from autopeft.training.state import State, fits, read_state, write_state
from autopeft.trial import Rung, Trial


class AtRungs:
    """The files of one trial."""

    def __init__(self, folder: Path, trial: Trial, on_the_way: bool) -> None:
        """`folder` is that of the search's weights; without `on_the_way` only the last rung leaves anything."""
        self.weights = weights_of(folder, trial.number)
        self._state = state_of(folder, trial.number)
        self._trial = trial
        self._of = {"candidate": trial.candidate.to_dict(), "seed": trial.seed}
        self._on_the_way = on_the_way and has_mark(folder)

    def state(self) -> State | None:
        """What to go on from; where there is nothing, the trial begins anew, and what is left of it is taken away, but
        for weights that have the score which is remembered of it: until it reaches a rung again.
        """
        found = read_state(self._state, self._of) if self._on_the_way else None
        clear_leftovers(self.weights.parent, self.weights.name, whole=found is None and not self._trial.artifact)
        return found

    def keep(self, state: State) -> None:
        """In the place of that of an earlier rung, which stays where there is no room for another."""
        if self._on_the_way:
            write_state(state, self._state, self._of)

    def with_weights(self, rung: Rung, model: TaskModel, description: Description) -> Rung:
        """The rung, whose weights are kept from now on in the place of those of an earlier one; as it is, where they
        are not.
        """
        last = rung.step >= rung.steps
        if not last and not (self._on_the_way and fits(_bytes(model), self.weights.parent)):
            shutil.rmtree(self.weights, ignore_errors=True)
            return rung
        try:
            with evaluating(model):
                save_artifact(self.weights, model.methods, model.head, description, self._trial.candidate)
        except Exception as error:
            if last or fault_of(error) is not Fault.DISK:
                raise
            shutil.rmtree(self.weights, ignore_errors=True)
            return rung
        return replace(rung, artifact=f"{self.weights.parent.name}/{self.weights.name}")


def _bytes(model: TaskModel) -> int:
    of_head = sum(int(tensor.nbytes) for tensor in model.head.state_dict().values())
    return model.methods.stored + of_head
