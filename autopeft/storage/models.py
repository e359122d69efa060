"""The tables of the database of searches, and the way of every fact into them and back.

What is loaded equals what was recorded, and is `checked`: moments come back in UTC, numbers that are not finite come
back, tuples of a candidate's settings are tuples again. Only portable column types, so that any database of SQLAlchemy
can hold them. Keys of trials are natural (search and number), so that recording a trial again is a merge. A change here
needs a migration (`storage/README.md`).
"""

import math
from datetime import UTC, datetime
from typing import Any, Self

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship

from autopeft.plan import Plan
from autopeft.sizes import Share
from autopeft.space.candidate import Candidate
from autopeft.storage.checked import checked
from autopeft.trial import Answers, Baselines, Confirmation, Costs, Outcome, Rung, SearchRecord, Status, Trial

_NOT_FINITE = "__float__"
"""The only key of the mapping that stands in JSON for a number that JSON cannot hold."""


_STATUS = Enum(Status, native_enum=False, length=20, values_callable=lambda kind: [each.value for each in kind])


class Moment(TypeDecorator[datetime]):
    """A moment with its time zone, in UTC; also where the database knows no time zones."""

    impl = DateTime(timezone=True).with_variant(DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, _: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)


class Real(TypeDecorator[float]):
    """A float that is always known; 'not a number' is NULL, because not every database has it."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, _: Dialect) -> float | None:
        return None if value is None or math.isnan(value) else value

    def process_result_value(self, value: float | None, _: Dialect) -> float:
        return math.nan if value is None else value


class Plain(TypeDecorator[Any]):
    """Plain values as JSON: mappings, lists (tuples come back as lists), texts and numbers, finite or not."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Any, _: Dialect) -> Any:
        return _into_json(value)

    def process_result_value(self, value: Any, _: Dialect) -> Any:
        return _out_of_json(value)


class Base(DeclarativeBase):
    """All tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class SearchRow(Base):
    """One search without its trials."""

    __tablename__ = "searches"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    created: Mapped[datetime] = mapped_column(Moment)
    ended: Mapped[datetime | None] = mapped_column(Moment)
    plan: Mapped[dict[str, Any]] = mapped_column(Plain)
    baselines: Mapped[dict[str, float] | None] = mapped_column(Plain)
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
            baselines=plain_baselines(record.baselines) if record.baselines else None,
            facts=dict(record.facts),
            turned_away=dict(record.turned_away),
        )

    def record(self) -> SearchRecord:
        record = SearchRecord(
            self.name,
            _plan(self.plan),
            self.created,
            tuple(row.trial() for row in self.trials),
            checked(Baselines(**self.baselines)) if self.baselines else None,
            self.ended,
            self.facts,
            self.turned_away,
            tuple(each.confirmation() for row in self.trials for each in row.confirmations),
        )
        return checked(record)


class TrialRow(Base):
    """One candidate of a search; what is known of it lies in the tables below."""

    __tablename__ = "trials"

    search_id: Mapped[int] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    candidate: Mapped[dict[str, Any]] = mapped_column(Plain)
    params: Mapped[dict[str, Any]] = mapped_column(Plain)
    seed: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[Status] = mapped_column(_STATUS)
    started: Mapped[datetime | None] = mapped_column(Moment)
    finished: Mapped[datetime | None] = mapped_column(Moment)
    curve: Mapped[list["RungRow"]] = relationship(order_by="RungRow.position", cascade="all, delete-orphan")
    costs: Mapped[list["CostsRow"]] = relationship(cascade="all, delete-orphan")
    outcome: Mapped["OutcomeRow | None"] = relationship(cascade="all, delete-orphan")
    confirmations: Mapped[list["ConfirmationRow"]] = relationship(order_by="ConfirmationRow.repeat", viewonly=True)

    @classmethod
    def of(cls, search_id: int, trial: Trial) -> Self:
        """Rows of this trial alone, to be added or merged; its confirmations have rows of their own."""
        key = {"search_id": search_id, "number": trial.number}
        costs = {"predicted": trial.predicted, "measured": trial.outcome.measured if trial.outcome else None}
        return cls(
            **key,
            candidate=trial.candidate.to_dict(),
            params=dict(trial.params),
            seed=trial.seed,
            status=trial.status,
            started=trial.started,
            finished=trial.finished,
            curve=[RungRow.of(key, position, rung) for position, rung in enumerate(trial.curve)],
            costs=[CostsRow.of(key, kind, each) for kind, each in costs.items() if each is not None],
            outcome=OutcomeRow.of(key, trial.outcome) if trial.outcome else None,
        )

    def trial(self) -> Trial:
        costs = {row.kind: row.costs() for row in self.costs}
        candidate = Candidate.from_dict(self.candidate)
        for part in (candidate, candidate.training, *candidate.parts):
            checked(part)
        trial = Trial(
            self.number,
            candidate,
            costs["predicted"],
            self.params,
            self.seed,
            self.status,
            tuple(row.rung() for row in self.curve),
            self.outcome.outcome(costs.get("measured")) if self.outcome else None,
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


class RungRow(_OfTrial, Base):
    """One rung of a trial's curve."""

    __tablename__ = "curves"

    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(BigInteger)
    steps: Mapped[int] = mapped_column(BigInteger)
    accuracy: Mapped[float] = mapped_column(Real, nullable=True)
    loss: Mapped[float] = mapped_column(Real, nullable=True)
    seconds: Mapped[float] = mapped_column(Real, nullable=True)

    @classmethod
    def of(cls, key: dict[str, int], position: int, rung: Rung) -> Self:
        return cls(
            **key,
            position=position,
            step=rung.step,
            steps=rung.steps,
            accuracy=rung.accuracy,
            loss=rung.loss,
            seconds=rung.seconds,
        )

    def rung(self) -> Rung:
        return checked(Rung(self.step, self.steps, self.accuracy, self.loss, self.seconds))


class CostsRow(_OfTrial, Base):
    """The costs of a trial: one row predicted and, once it was trained, one measured."""

    __tablename__ = "costs"

    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    trainable: Mapped[int] = mapped_column(BigInteger)
    memory: Mapped[int] = mapped_column(BigInteger)
    stored: Mapped[int] = mapped_column(BigInteger)
    flops: Mapped[int] = mapped_column(BigInteger)
    memory_by_part: Mapped[dict[str, int]] = mapped_column(Plain)
    inference_flops: Mapped[int | None] = mapped_column(BigInteger)
    overhead: Mapped[float | None] = mapped_column(Double)
    set_up_flops: Mapped[int | None] = mapped_column(BigInteger)

    @classmethod
    def of(cls, key: dict[str, int], kind: str, costs: Costs) -> Self:
        return cls(
            **key,
            kind=kind,
            trainable=costs.trainable,
            memory=costs.memory,
            stored=costs.stored,
            flops=costs.flops,
            memory_by_part=dict(costs.memory_by_part),
            inference_flops=costs.inference_flops,
            overhead=costs.overhead,
            set_up_flops=costs.set_up_flops,
        )

    def costs(self) -> Costs:
        costs = Costs(
            self.trainable,
            self.memory,
            self.stored,
            self.flops,
            self.memory_by_part,
            self.inference_flops,
            self.overhead,
            self.set_up_flops,
        )
        return checked(costs)


class OutcomeRow(_OfTrial, Base):
    """What the training of a trial returned; its measured costs are a row of `costs`."""

    __tablename__ = "outcomes"

    status: Mapped[Status] = mapped_column(_STATUS)
    reason: Mapped[str] = mapped_column(Text)
    seconds: Mapped[float] = mapped_column(Real, nullable=True)
    artifact: Mapped[str] = mapped_column(Text)
    facts: Mapped[dict[str, Any]] = mapped_column(Plain)

    @classmethod
    def of(cls, key: dict[str, int], outcome: Outcome) -> Self:
        return cls(
            **key,
            status=outcome.status,
            reason=_storable(outcome.reason),
            seconds=outcome.seconds,
            artifact=outcome.artifact,
            facts=dict(outcome.facts),
        )

    def outcome(self, measured: Costs | None) -> Outcome:
        return checked(Outcome(self.status, self.reason, self.seconds, measured, self.artifact, self.facts))


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
    """What a confirmation answered on one split, a bit for each row."""

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
    accuracy: Mapped[float] = mapped_column(Real, nullable=True)
    rows: Mapped[int] = mapped_column(BigInteger)
    right: Mapped[bytes] = mapped_column(LargeBinary)

    @classmethod
    def of(cls, key: dict[str, int], split: str, answers: Answers) -> Self:
        return cls(**key, split=split, accuracy=answers.accuracy, rows=answers.rows, right=answers.right)

    def answers(self) -> Answers:
        return checked(Answers(self.accuracy, self.rows, self.right))


def plain_baselines(baselines: Baselines) -> dict[str, float]:
    return {"majority": baselines.majority, "probe": baselines.probe}


def plain_plan(plan: Plan) -> dict[str, Any]:
    """A share is kept as the exact number, which its text is not."""
    plain = plan.to_dict()
    if isinstance(plan.budget.trainable, Share):
        plain["budget"]["trainable"] = {"share": plan.budget.trainable.fraction}
    return plain


def _plan(plain: dict[str, Any]) -> Plan:
    budget = dict(plain["budget"])
    if isinstance(budget["trainable"], dict):
        budget["trainable"] = Share(budget["trainable"]["share"])
    return Plan.from_dict({**plain, "budget": budget})


def _storable(text: str) -> str:
    """A text of any origin, with escapes for what some database refuses: NUL, and halves of characters."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _into_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _into_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_into_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {_NOT_FINITE: str(value)}
    return value


def _out_of_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_out_of_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_NOT_FINITE}:
        return float(value[_NOT_FINITE])
    return {key: _out_of_json(item) for key, item in value.items()}
