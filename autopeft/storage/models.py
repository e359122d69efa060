"""The tables of the database of searches, and the way of every fact into them and back.

What is loaded equals what was recorded, and is `checked`; tuples of a candidate's settings are tuples again. Keys of
trials are natural (search and number), so that recording a trial again is a merge. A change here needs a migration
(`storage/README.md`).
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Self

from sqlalchemy import BigInteger, Enum, ForeignKey, ForeignKeyConstraint, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, declared_attr, mapped_column, relationship

from autopeft.objectives import Objective, plain_score, score_of
from autopeft.plan import Plan
from autopeft.sizes import Share
from autopeft.space.candidate import Candidate
from autopeft.storage.base import Base
from autopeft.storage.checked import checked
from autopeft.storage.columns import Moment, Plain, Real
from autopeft.trial import Answers, Baseline, Confirmation, Costs, Outcome, Rung, SearchRecord, Status, Trial

_STATUS = Enum(Status, native_enum=False, length=20, values_callable=lambda kind: [each.value for each in kind])


class SearchRow(Base):
    """One search without its trials."""

    __tablename__ = "searches"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    created: Mapped[datetime] = mapped_column(Moment)
    ended: Mapped[datetime | None] = mapped_column(Moment)
    plan: Mapped[dict[str, Any]] = mapped_column(Plain)
    task: Mapped[str] = mapped_column(String(100))
    metric: Mapped[dict[str, Any]] = mapped_column(Plain)
    baselines: Mapped[dict[str, dict[str, Any]]] = mapped_column(Plain)
    facts: Mapped[dict[str, Any]] = mapped_column(Plain)
    turned_away: Mapped[dict[str, int]] = mapped_column(Plain)
    trials: Mapped[list["TrialRow"]] = relationship(order_by="TrialRow.number")

    @classmethod
    def of(cls, record: SearchRecord) -> Self:
        return cls(
            name=record.name,
            created=record.created,
            ended=record.ended,
            plan=plain_plan(record.plan),
            task=record.task,
            metric=plain_score(record.metric),
            baselines=plain_baselines(record.baselines),
            facts=dict(record.facts),
            turned_away=dict(record.turned_away),
        )

    def record(self) -> SearchRecord:
        record = SearchRecord(
            self.name,
            plan_of(self.plan),
            self.created,
            tuple(row.trial() for row in self.trials),
            {name: _baseline(plain) for name, plain in self.baselines.items()},
            self.ended,
            self.facts,
            self.turned_away,
            tuple(each.confirmation() for row in self.trials for each in row.confirmations),
            self.task,
            metric_of(self.metric),
        )
        return checked(record)


class TrialRow(Base):
    """One candidate of a search; what is known of it lies in the tables below."""

    __tablename__ = "trials"

    search_id: Mapped[int] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    candidate: Mapped[dict[str, Any]] = mapped_column(Plain)
    predicted: Mapped[dict[str, Any]] = mapped_column(Plain)
    params: Mapped[dict[str, Any]] = mapped_column(Plain)
    seed: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[Status] = mapped_column(_STATUS)
    started: Mapped[datetime | None] = mapped_column(Moment)
    finished: Mapped[datetime | None] = mapped_column(Moment)
    curve: Mapped[list["RungRow"]] = relationship(order_by="RungRow.position", cascade="all, delete-orphan")
    outcome: Mapped["OutcomeRow | None"] = relationship(cascade="all, delete-orphan")
    confirmations: Mapped[list["ConfirmationRow"]] = relationship(order_by="ConfirmationRow.repeat", viewonly=True)

    @classmethod
    def of(cls, search_id: int, trial: Trial) -> Self:
        """Rows of this trial alone, to be added or merged; its confirmations have rows of their own."""
        key = {"search_id": search_id, "number": trial.number}
        return cls(
            **key,
            candidate=trial.candidate.to_dict(),
            predicted=asdict(trial.predicted),
            params=dict(trial.params),
            seed=trial.seed,
            status=trial.status,
            started=trial.started,
            finished=trial.finished,
            curve=[RungRow.of(key, position, rung) for position, rung in enumerate(trial.curve)],
            outcome=OutcomeRow.of(key, trial.outcome) if trial.outcome else None,
        )

    def trial(self) -> Trial:
        candidate = Candidate.from_dict(self.candidate)
        for part in (candidate, candidate.training, *candidate.parts):
            checked(part)
        trial = Trial(
            self.number,
            candidate,
            checked(Costs(**self.predicted)),
            self.params,
            self.seed,
            self.status,
            tuple(row.rung() for row in self.curve),
            self.outcome.outcome() if self.outcome else None,
            self.started,
            self.finished,
        )
        return checked(trial)


class _OfTrial:
    """The key of a trial and what belongs to a trial: it goes when the trial goes."""

    search_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    @declared_attr.directive
    def __table_args__(cls) -> tuple[ForeignKeyConstraint]:
        columns = ["search_id", "number"]
        return (ForeignKeyConstraint(columns, [f"trials.{column}" for column in columns], ondelete="CASCADE"),)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


class RungRow(_OfTrial, Base):
    """One rung of a trial's curve."""

    __tablename__ = "curves"

    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(BigInteger)
    steps: Mapped[int] = mapped_column(BigInteger)
    score: Mapped[float] = mapped_column(Real, nullable=True)
    error: Mapped[float] = mapped_column(Real, nullable=True)
    loss: Mapped[float] = mapped_column(Real, nullable=True)
    seconds: Mapped[float] = mapped_column(Real, nullable=True)
    others: Mapped[dict[str, Any]] = mapped_column(Plain)
    """By name, each value with its error; alone where nobody knew that."""
    artifact: Mapped[str] = mapped_column(Text)

    @classmethod
    def of(cls, key: dict[str, int], position: int, rung: Rung) -> Self:
        return cls(
            **key,
            position=position,
            step=rung.step,
            steps=rung.steps,
            score=rung.score,
            error=rung.error,
            loss=rung.loss,
            seconds=rung.seconds,
            others={
                name: [value, rung.other_errors[name]] if name in rung.other_errors else value
                for name, value in rung.others.items()
            },
            artifact=rung.artifact,
        )

    def rung(self) -> Rung:
        others = {name: each[0] if _is_pair(each) else each for name, each in self.others.items()}
        errors = {name: each[1] for name, each in self.others.items() if _is_pair(each)}
        known = (self.step, self.steps, self.score, self.error, self.loss, self.seconds, others, errors, self.artifact)
        return checked(Rung(*known))


class OutcomeRow(_OfTrial, Base):
    """What the training of a trial returned; what it answered is NULL where nobody kept it."""

    __tablename__ = "outcomes"

    status: Mapped[Status] = mapped_column(_STATUS)
    reason: Mapped[str] = mapped_column(Text)
    seconds: Mapped[float] = mapped_column(Real, nullable=True)
    measured: Mapped[dict[str, Any] | None] = mapped_column(Plain)
    artifact: Mapped[str] = mapped_column(Text)
    facts: Mapped[dict[str, Any]] = mapped_column(Plain)
    score: Mapped[float] = mapped_column(Real, nullable=True)
    rows: Mapped[int | None] = mapped_column(BigInteger)
    values: Mapped[bytes | None] = mapped_column(LargeBinary)

    @classmethod
    def of(cls, key: dict[str, int], outcome: Outcome) -> Self:
        answers = outcome.answers
        return cls(
            **key,
            status=outcome.status,
            reason=_storable(outcome.reason),
            seconds=outcome.seconds,
            measured=asdict(outcome.measured) if outcome.measured else None,
            artifact=outcome.artifact,
            facts=dict(outcome.facts),
            score=answers.score if answers else None,
            rows=answers.rows if answers else None,
            values=answers.values if answers else None,
        )

    def outcome(self) -> Outcome:
        measured = checked(Costs(**self.measured)) if self.measured is not None else None
        answers = None
        if self.rows is not None and self.values is not None:
            answers = checked(Answers(self.score, self.rows, self.values))
        return checked(Outcome(self.status, self.reason, self.seconds, measured, self.artifact, self.facts, answers))


class ConfirmationRow(_OfTrial, Base):
    """One more training of a trial; what it answered lies in `answers`."""

    __tablename__ = "confirmations"

    repeat: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seed: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[Status] = mapped_column(_STATUS)
    reason: Mapped[str] = mapped_column(Text)
    seconds: Mapped[float] = mapped_column(Real, nullable=True)
    step: Mapped[int] = mapped_column(BigInteger)
    facts: Mapped[dict[str, Any]] = mapped_column(Plain)
    finished: Mapped[datetime | None] = mapped_column(Moment)
    answers: Mapped[list["AnswersRow"]] = relationship(cascade="all, delete-orphan")

    @classmethod
    def of(cls, search_id: int, confirmation: Confirmation) -> Self:
        """Rows of this confirmation alone, to be added or merged."""
        key = {"search_id": search_id, "number": confirmation.number, "repeat": confirmation.repeat}
        answers = {"validation": confirmation.validation, "test": confirmation.test}
        return cls(
            **key,
            seed=confirmation.seed,
            status=confirmation.status,
            reason=_storable(confirmation.reason),
            seconds=confirmation.seconds,
            step=confirmation.step,
            facts=dict(confirmation.facts),
            finished=confirmation.finished,
            answers=[AnswersRow.of(key, split, each) for split, each in answers.items() if each is not None],
        )

    def confirmation(self) -> Confirmation:
        answers = {row.split: row.answers() for row in self.answers}
        confirmation = Confirmation(
            self.number,
            self.repeat,
            self.seed,
            self.status,
            self.reason,
            self.seconds,
            self.step,
            answers.get("validation"),
            answers.get("test"),
            self.facts,
            self.finished,
        )
        return checked(confirmation)


class AnswersRow(Base):
    """What a confirmation answered on one split, a number for each row."""

    __tablename__ = "answers"
    __table_args__ = (
        ForeignKeyConstraint(
            ["search_id", "number", "repeat"],
            ["confirmations.search_id", "confirmations.number", "confirmations.repeat"],
            ondelete="CASCADE",
        ),
    )

    search_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    repeat: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    split: Mapped[str] = mapped_column(String(20), primary_key=True)
    score: Mapped[float] = mapped_column(Real, nullable=True)
    rows: Mapped[int] = mapped_column(BigInteger)
    values: Mapped[bytes] = mapped_column(LargeBinary)

    @classmethod
    def of(cls, key: dict[str, int], split: str, answers: Answers) -> Self:
        return cls(**key, split=split, score=answers.score, rows=answers.rows, values=answers.values)

    def answers(self) -> Answers:
        return checked(Answers(self.score, self.rows, self.values))


def plain_baselines(baselines: Mapping[str, Baseline]) -> dict[str, dict[str, Any]]:
    """Rows' values as text, because JSON holds no bytes."""
    plain = {name: asdict(each) for name, each in baselines.items()}
    for each in plain.values():
        if each["answers"] is not None:
            each["answers"]["values"] = b64encode(each["answers"]["values"]).decode("ascii")
    return plain


def _baseline(plain: Mapping[str, Any]) -> Baseline:
    answers = plain.get("answers")
    if answers is not None:
        answers = checked(Answers(**{**answers, "values": b64decode(answers["values"])}))
    rows = plain.get("rows")
    written = tuple(plain.get("written", ()))
    rows = None if rows is None else tuple(rows)
    return checked(Baseline(**{**plain, "answers": answers, "rows": rows, "written": written}))


def metric_of(plain: Mapping[str, Any]) -> Objective:
    """The score as an objective. Raises ValueError for what is no metric."""
    return checked(score_of(**plain))


def plain_plan(plan: Plan) -> dict[str, Any]:
    """A share is kept as the exact number, which its text is not."""
    plain = plan.to_dict()
    if isinstance(plan.budget.trainable, Share):
        plain["budget"]["trainable"] = {"share": plan.budget.trainable.fraction}
    return plain


def plan_of(plain: Mapping[str, Any]) -> Plan:
    """Searches that do not say which weights they keep were made when all were kept."""
    budget = dict(plain["budget"])
    if isinstance(budget["trainable"], dict):
        budget["trainable"] = Share(budget["trainable"]["share"])
    return Plan.from_dict({"keep": "all", **plain, "budget": budget})


def _storable(text: str) -> str:
    """A text of any origin, with escapes for what some database refuses: NUL, and halves of characters."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
