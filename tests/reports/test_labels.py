"""Labels of plots stand beside each other."""

from autopeft.reports.labels import lines_up, positions


def test_a_label_that_stands_alone_is_above_its_point() -> None:
    assert positions({"1": (0.5, 0.5)}, [(0.5, 0.5)]) == {"1": "top center"}


def test_labels_of_neighbours_do_not_cover_each_other_or_points() -> None:
    close = {"11": (0.500, 0.500), "12": (0.501, 0.500), "13": (0.500, 0.501)}
    assert len(set(positions(close, [*close.values()]).values())) == 3
    under = {"1": (0.5, 0.5)}
    assert positions(under, [(0.5, 0.5), (0.5, 0.54)]) == {"1": "bottom center"}


def test_labels_at_one_edge_stand_where_none_covers_another() -> None:
    assert list(lines_up([0.0, 0.0, 0.0])) == [0, 1, 2]
    assert list(lines_up([0.5, 0.9])) == [0, 0]
    assert list(lines_up([])) == []


def test_of_two_lines_close_to_each_other_the_lower_one_has_its_label_below() -> None:
    close = [0.5, 0.52, 0.9]
    assert list(lines_up(close, close)) == [-1, 0, 0]
    assert list(lines_up([0.5, 0.5], [0.5, 0.5])) == [0, -1]
    closer = [0.5, 0.51, 0.52, 0.53]
    feet = [height + 0.05 * moved for height, moved in zip(closer, lines_up(closer, closer), strict=True)]
    assert min(abs(one - other) for at, one in enumerate(feet) for other in feet[:at]) >= 0.0495
