"""The report's plots as figures of Plotly's, for notebooks."""

from plotly.graph_objects import Figure

from autopeft.errors import AutopeftError, unknown
from autopeft.reports.findings import find
from autopeft.reports.harmless import harmless
from autopeft.reports.plots import plots
from autopeft.reports.sound import sound
from autopeft.trial import SearchRecord


def figure(record: SearchRecord, name: str) -> Figure:
    """One of the plots by its name. Raises AutopeftError."""
    record = harmless(sound(record))
    drawn = {plot.name: plot for plot in plots(record, find(record))}
    if not drawn:
        raise AutopeftError(f"search '{record.name}' has nothing to plot yet: no trial has a score.")
    if name not in drawn:
        raise unknown("plot", name, drawn)
    chosen = drawn[name]
    return Figure(chosen.figure).update_layout(title=chosen.title, margin_t=60)
