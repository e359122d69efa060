"""What one thread does not want to hear, others hear."""

import sys
import threading
import warnings

import pytest

from autopeft.methods.quiet import quiet


def test_a_quiet_thread_is_not_heard_and_another_is(capsys: pytest.CaptureFixture[str]) -> None:
    inside, done = threading.Event(), threading.Event()

    def attach() -> None:
        with quiet(("in vain",)):
            warnings.warn("in vain, of course", UserWarning, stacklevel=1)
            print("compiling", file=sys.stderr)
            inside.set()
            done.wait(10)

    before = sys.stderr
    thread = threading.Thread(target=attach)
    thread.start()
    assert inside.wait(10)
    print("training", file=sys.stderr)
    with pytest.raises(UserWarning, match="in vain"):
        warnings.warn("in vain, not here", UserWarning, stacklevel=1)
    done.set()
    thread.join()
    assert capsys.readouterr().err == "training\n"
    assert sys.stderr is before


def test_what_is_not_in_vain_is_heard_of_a_quiet_thread_too() -> None:
    with quiet(("in vain",)), pytest.raises(UserWarning, match="important"):
        warnings.warn("important", UserWarning, stacklevel=1)


def test_quiet_within_quiet_ends_with_the_outer_one(capsys: pytest.CaptureFixture[str]) -> None:
    filters = list(warnings.filters)
    with quiet(("one",)):
        with quiet(("other",)):
            warnings.warn("one", UserWarning, stacklevel=1)
        print("still quiet", file=sys.stderr)
        with pytest.raises(UserWarning, match="other"):
            warnings.warn("other", UserWarning, stacklevel=1)
    print("heard", file=sys.stderr)
    assert capsys.readouterr().err == "heard\n"
    assert warnings.filters == filters


def test_filters_that_another_thread_sets_meanwhile_are_kept() -> None:
    began, go_on = threading.Event(), threading.Event()

    def attach() -> None:
        with quiet(("in vain",)):
            began.set()
            go_on.wait(10)

    thread = threading.Thread(target=attach)
    thread.start()
    assert began.wait(10)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        go_on.set()
        thread.join()
        warnings.warn("in vain", UserWarning, stacklevel=1)
    assert len(heard) == 1
    with pytest.raises(UserWarning, match="in vain"):
        warnings.warn("in vain", UserWarning, stacklevel=1)
