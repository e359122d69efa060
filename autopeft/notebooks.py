"""Objects that show themselves in a notebook, as tables in the reports' words."""


class Shown:
    """What a notebook shows as `reports/shown.py` draws it; imported when it does."""

    def _repr_html_(self) -> str:
        from autopeft.reports.shown import html_of

        return html_of(self)
