import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchors.plain_yaml import load_plain

LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        pytest.param("", None, id="empty"),
        pytest.param(
            "a: 1\nb: [x, 2.5, null, true]", {"a": 1, "b": ["x", 2.5, None, True]}, id="all"
        ),
        pytest.param("a: '*b'\nc: '&d'\ne: '!f'", {"a": "*b", "c": "&d", "e": "!f"}, id="quoted"),
    ],
)
def test_plain_data(text, plain):
    assert load_plain(text) == plain


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(LAUGHS, "aliases and tags have no place here", id="billion-laughs"),
        pytest.param(MERGES, "aliases and tags have no place here", id="billion-merges"),
        pytest.param("&a [*a]", "aliases and tags have no place here", id="a-list-in-itself"),
        pytest.param("a: *b", "aliases and tags have no place here", id="alias-of-nothing"),
        pytest.param(
            "!!python/object/apply:os.system ['true']", "aliases and tags", id="python-call"
        ),
        pytest.param("a: !!python/name:os.system", "aliases and tags", id="python-name"),
        pytest.param("a: !!timestamp x", "aliases and tags", id="tag-that-does-not-fit"),
        pytest.param("a: !!bool x", "aliases and tags", id="no-bool"),
        pytest.param("a: !!float _", "aliases and tags", id="no-float"),
        pytest.param("a: 2001-99-99", "month must be in 1..12", id="no-date"),
        pytest.param("a: " + "9" * 5000, "integer string conversion", id="a-number-too-long"),
        pytest.param("[" * 100_000, "nested too deeply", id="lists-in-lists"),
        pytest.param("{a: " * 100_000, "nested too deeply", id="dicts-in-dicts"),
        pytest.param("- " * 100_000, "nested too deeply", id="lists-in-lists-by-indentation"),
        pytest.param("a: b: c", "mapping values are not allowed", id="syntax"),
        pytest.param("a: \0", "special characters are not allowed", id="nul"),
        pytest.param("a: 1\n---\nb: 2", "single document", id="two-documents"),
        pytest.param("? [a]\n: b", "unhashable key", id="a-list-for-a-key"),
    ],
)
def test_refused_at_once_and_in_one_line(text, message):
    start = time.monotonic()
    with pytest.raises(ValueError, match=message) as caught:
        load_plain(text)
    assert time.monotonic() - start < 5
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="ab1-:.,[]{}&*!'\"#|>%?<~\n \t", max_size=60))
def test_any_text_is_data_or_a_value_error(text):
    try:
        load_plain(text)
    except ValueError:
        pass
