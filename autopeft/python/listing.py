"""What there is to choose from: methods, tasks and spaces, as the command line lists them."""

from autopeft.reports.catalogue import SpaceOverview, TaskOverview, space_overviews, task_overviews
from autopeft.reports.methods import overviews
from autopeft.reports.overview import Overview


def list_methods() -> tuple[Overview, ...]:
    """All methods and hybrids, each at its defaults: name, family, summary, paper, the parameters that it trains on a
    BERT-base, whether it merges into the weights, and whether it is saved in peft's own format.

    >>> [each.name for each in list_methods() if each.merges]
    """
    return overviews()


def list_tasks() -> tuple[TaskOverview, ...]:
    """All task types: name, summary, what columns they read, and the metrics that they are judged by."""
    return task_overviews()


def list_spaces() -> tuple[SpaceOverview, ...]:
    """All named search spaces: name, summary, methods and hybrids."""
    return space_overviews()
