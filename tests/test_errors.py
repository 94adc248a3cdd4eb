"""An error says what we saw, what we want, what to try; and can be caught as what it is."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnisky import errors
from omnisky.errors import OmniskyError

TREE = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OmniskyError)]
words = st.text(st.characters(categories=["L", "N"]), min_size=1)
names = st.tuples(words) | st.tuples(words, words, words)

every_error = pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)


@every_error
def test_the_three_parts_are_said_and_kept(kind):
    error = kind("Image.bands", saw=("g", "r"), want=("g", "r", "z"), hint="a codec without z")
    assert str(error) == "Image.bands. saw g r; want g r z. Try: a codec without z"
    assert (error.saw, error.want, error.hint) == (("g", "r"), ("g", "r", "z"), "a codec without z")


@every_error
def test_it_crosses_a_process_border_whole(kind):
    """Loader workers send their errors home by pickle."""
    error = kind("disk", saw=1, want=2, hint="more disk")
    home = pickle.loads(pickle.dumps(error))
    assert type(home) is kind
    assert (str(home), home.saw, home.want, home.hint) == (str(error), 1, 2, "more disk")


@every_error
def test_it_has_a_docstring_of_its_own(kind):
    assert kind.__doc__ and kind.__doc__ != kind.__base__.__doc__


@given(message=words, saw=names, want=names, hint=words)
def test_nothing_said_is_lost(message, saw, want, hint):
    text = str(OmniskyError(message, saw=saw, want=want, hint=hint))
    assert text == f"{message}. saw {' '.join(saw)}; want {' '.join(want)}. Try: {hint}"


@given(message=words, hint=words)
def test_what_is_not_given_is_not_mentioned(message, hint):
    assert str(OmniskyError(message)) == message
    assert str(OmniskyError(message, hint=hint)) == f"{message}. Try: {hint}"
    assert str(OmniskyError(hint=hint)) == f"Try: {hint}"


@given(saw=st.integers() | st.floats() | st.lists(st.integers(), min_size=1) | st.dictionaries(words, st.integers()))
def test_values_are_shown_as_python_shows_them(saw):
    assert str(OmniskyError(saw=saw, want="x")) == f"saw {saw}; want x"


def test_an_empty_list_is_called_nothing():
    assert str(OmniskyError(saw=(), want=("g",))) == "saw nothing; want g"


@given(message=words)
def test_full_stops_are_not_doubled(message):
    assert ".." not in str(OmniskyError(f"{message}.", saw=1, want=2, hint="a hint."))


@pytest.mark.parametrize(
    ("kind", "usual"),
    [
        (errors.BandMismatch, ValueError),
        (errors.UnknownKey, ValueError),
        (errors.UnknownModel, LookupError),
        (errors.NonFiniteLoss, RuntimeError),
        (errors.StorageError, OSError),
        (errors.MissingExtra, ImportError),
    ],
)
def test_whoever_does_not_know_our_tree_can_catch_it_too(kind, usual):
    with pytest.raises(usual):
        raise kind("no")
