"""Other tools' ways to search, for `samplers.py` to replay beside ours; they need `pip install botorch syne-tune`.

`moasha` is Syne Tune's multi-objective asynchronous successive halving over random candidates. `qnehvi` is BoTorch's
noisy expected hypervolume improvement: independent Gaussian processes of all objectives, costs included, over our own
encoding of candidates; of a pool of random ones that with the greatest improvement is proposed. Both begin without a
portfolio, as these tools do.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import torch
from surfaces import Surface

from autopeft.objectives import Objective
from autopeft.searching.proposer import Proposal
from autopeft.searching.samplers.parts.drawing import Drawn
from autopeft.searching.samplers.parts.features import GROUPS, Described, describe
from autopeft.space.candidate import Candidate
from autopeft.trial import Status, Trial

RIVALS = ("moasha", "qnehvi")
_LOGARITHMIC = ("memory", "trainable")
_FIRST = 10
"""Random candidates before the first model."""
_POOL = 256
_REFIT = 5
"""Trials after which the model's hyperparameters are fitted anew."""
_SAMPLES = 64
"""Of the acquisition."""
_SAMPLE = 1000
"""Candidates that tell how wide a space is."""


class Random:
    """Proposes random candidates; learns nothing."""

    def __init__(self, surface: Surface, seed: int) -> None:
        self._space = surface.space
        self._rng = np.random.default_rng(seed)

    def propose(self) -> Proposal:
        source = Drawn(self._rng)
        return Proposal(self._space.draw(source), source.drawn)

    def tell(self, trial: Trial) -> None:
        """Nothing is learned."""


class Moasha(Random):
    """Random candidates, stopped by Syne Tune."""

    def __init__(self, surface: Surface, seed: int, objectives: Sequence[Objective]) -> None:
        from syne_tune.backend.trial_status import Trial as Known
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

        super().__init__(surface, seed)
        self._objectives = tuple(objectives)
        self._known = Known
        names = [each.key for each in objectives]
        self._scheduler = MOASHA({}, names, time_attr="ninths", max_t=9, grace_period=1, random_seed=seed)
        self._added: set[int] = set()

    def goes_on(self, trial: Trial) -> bool:
        """At a rung: whether Syne Tune lets the trial go on."""
        known = self._known(trial.number, {}, datetime.now())
        if trial.number not in self._added:
            self._added.add(trial.number)
            self._scheduler.on_trial_add(known)
        rung = trial.curve[-1]
        values = {each.key: -each.sign * trial.value(each.key) for each in self._objectives}
        result = {**values, "ninths": round(9 * rung.step / rung.steps)}
        return bool(self._scheduler.on_trial_result(known, result) == "CONTINUE")


class Qnehvi(Random):
    """Candidates that BoTorch's acquisition prefers."""

    def __init__(self, surface: Surface, seed: int, objectives: Sequence[Objective]) -> None:
        super().__init__(surface, seed)
        self._objectives = tuple(objectives)
        self._cards = surface.space.cards
        self._seed = seed
        self._seen: list[tuple[Described, list[float]]] = []
        self._fitted: list[Any] = []
        """What the models learned when they were last fitted."""
        sample = [surface.space.draw(Drawn(np.random.default_rng(number))) for number in range(_SAMPLE)]
        self._encoding = _Encoding([describe(each, self._cards) for each in sample])

    def tell(self, trial: Trial) -> None:
        if trial.status is Status.FINISHED:
            values = [self._goodness(each, trial.value(each.key)) for each in self._objectives]
            self._seen.append((describe(trial.candidate, self._cards), values))

    @staticmethod
    def _goodness(objective: Objective, value: float) -> float:
        return objective.sign * (np.log(value) if objective.name in _LOGARITHMIC else value)

    def propose(self) -> Proposal:
        if len(self._seen) < _FIRST:
            return super().propose()
        pool = [super(Qnehvi, self).propose() for _ in range(_POOL)]
        return pool[int(self._acquired([each.candidate for each in pool]).argmax())]

    def _acquired(self, candidates: Sequence[Candidate]) -> torch.Tensor:
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.sampling import SobolQMCNormalSampler
        from gpytorch.mlls import ExactMarginalLogLikelihood

        torch.manual_seed(self._seed + len(self._seen))
        x = self._encoding([seen for seen, _ in self._seen])
        pool = self._encoding([describe(each, self._cards) for each in candidates])
        y = torch.tensor([values for _, values in self._seen], dtype=torch.float64)
        y = (y - y.mean(0)) / y.std(0).clamp(min=1e-9)
        model = ModelListGP(*(SingleTaskGP(x, y[:, [at]]) for at in range(y.shape[1])))
        if len(self._seen) % _REFIT == 0 or not self._fitted:
            for each in model.models:
                fit_gpytorch_mll(ExactMarginalLogLikelihood(each.likelihood, each))
            self._fitted = [each.state_dict() for each in model.models]
        else:
            for each, state in zip(model.models, self._fitted, strict=True):
                each.load_state_dict(state)
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            model,
            ref_point=(y.min(0).values - 0.1 * (y.max(0).values - y.min(0).values)).tolist(),
            X_baseline=x,
            prune_baseline=True,
            sampler=SobolQMCNormalSampler(torch.Size([_SAMPLES]), seed=self._seed),
        )
        with torch.no_grad():
            scores: torch.Tensor = acquisition(pool[:, None, :])
        return scores


class _Encoding:
    """Candidates as coordinates between 0 and 1, as wide as a sample of a space is."""

    def __init__(self, sample: Sequence[Described]) -> None:
        flat = [self._flat(each) for each in sample]
        self._names = sorted({name for each in flat for name in each})
        values = self._values(flat)
        self._low, self._high = values.min(0).values, values.max(0).values

    def __call__(self, described: Sequence[Described]) -> torch.Tensor:
        """(candidates, coordinates)"""
        values = self._values([self._flat(each) for each in described])
        return (values - self._low) / (self._high - self._low).clamp(min=1e-9)

    def _values(self, flat: Sequence[Mapping[str, float]]) -> torch.Tensor:
        return torch.tensor([[each.get(name, 0.0) for name in self._names] for each in flat], dtype=torch.float64)

    @staticmethod
    def _flat(described: Described) -> Mapping[str, float]:
        return {f"{group} {name}": x for group in GROUPS for name, x in described.groups.get(group, {}).items()}


def rival(name: str, surface: Surface, seed: int, objectives: Sequence[Objective]) -> Moasha | Qnehvi:
    """One of `RIVALS`."""
    kinds: Mapping[str, type[Moasha | Qnehvi]] = {"moasha": Moasha, "qnehvi": Qnehvi}
    return kinds[name](surface, seed, objectives)
