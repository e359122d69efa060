from autopeft.errors import unknown


def test_an_unknown_name_is_answered_with_the_nearest_and_all_others():
    assert str(unknown("space", "defualt", ("quick", "default"))) == (
        "unknown space 'defualt'. Did you mean 'default'? Known: default, quick."
    )


def test_the_nearest_name_is_found_whatever_its_case():
    assert "Did you mean 'Label'?" in str(unknown("column", "LABELS", ("Label", "text")))


def test_letters_that_changed_places_are_the_likeliest_slip():
    assert "Did you mean 'lora'?" in str(unknown("method", "lroa", ("lora", "road", "roll")))


def test_a_name_like_no_other_gets_no_suggestion():
    assert str(unknown("space", "xyz", ("default",))) == "unknown space 'xyz'. Known: default."


def test_where_nothing_is_known_that_is_said():
    assert str(unknown("space", "x", ())) == "unknown space 'x'. Known: none."
    assert str(unknown("plan field", 3, ("model",))) == "unknown plan field '3'. Known: model."  # type: ignore[arg-type]
