"""Targets on hand-made cases, and what holds for any instance."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stale_edge.networks.stale.targets import Targets, snippet_span, video_targets
from stale_edge_runtime.formats.annotations import Instance

CLASSES = {"A": 0, "B": 1, "C": 2}
BACKGROUND = 3
SHARES = st.floats(0, 1.2, allow_nan=False)


def targets(*instances, duration=10.0, snippets=10, **more):
    return video_targets([Instance(*i) for i in instances], duration, CLASSES, snippets, **more)


def classes(found):
    """Snippet classes as text: a letter for each, a dot for background."""
    return "".join("ABC."[index] for index in found.snippet_classes[0].tolist())


def mask_rows(found, anchor):
    return found.masks[0, anchor].nonzero().flatten().tolist()


def test_one_instance():
    found = targets((2.0, 5.0, "B"))
    assert classes(found) == "..BBB....."
    assert found.foreground[0].tolist() == [index in {2, 3, 4} for index in range(10)]
    assert [mask_rows(found, anchor) for anchor in range(10)] == [[]] * 2 + [[2, 3, 4]] * 3 + [[]] * 5
    assert found.video_classes.tolist() == [[False, True, False]]
    assert found.first_classes.tolist() == [1]
    assert found.known.all()
    assert found.snippet_classes.dtype == torch.int64


def test_boundaries_are_rounded_outward():
    assert classes(targets((2.9, 4.1, "A"))) == "..AAA....."


def test_a_boundary_on_a_border_stays_there():
    # In floating point, 0.29 times 100 is a little less than 29, and 0.07 times 100 a little more than 7.
    assert snippet_span(0.29, 0.57, 1.0, 100) == (29, 57)
    assert snippet_span(0.01, 0.07, 1.0, 100) == (1, 7)


def test_adjacent_instances_keep_separate_masks():
    found = targets((1.0, 4.0, "A"), (4.0, 6.0, "A"))
    assert classes(found) == ".AAAAA...."
    assert mask_rows(found, 3) == [1, 2, 3]
    assert mask_rows(found, 4) == [4, 5]


def test_overlapping_instances_share_what_both_own():
    found = targets((1.0, 5.0, "A"), (3.0, 8.0, "A"))
    assert classes(found) == ".AAAAAAA.."
    assert mask_rows(found, 1) == [1, 2, 3, 4]
    assert mask_rows(found, 3) == [1, 2, 3, 4, 5, 6, 7]
    assert mask_rows(found, 7) == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("turn", [1, -1])
def test_of_two_classes_the_shorter_instance_has_the_snippet(turn):
    found = targets(*[(0.0, 8.0, "C"), (2.0, 4.0, "A")][::turn])
    assert classes(found) == "CCAACCCC.."
    assert found.video_classes.tolist() == [[True, False, True]]
    assert found.first_classes.tolist() == [0]
    assert mask_rows(found, 2) == list(range(8))


@pytest.mark.parametrize(("first", "second"), ["AB", "BA"])
def test_of_equals_the_first_in_the_file_has_the_snippet(first, second):
    assert classes(targets((2.0, 4.0, first), (2.0, 4.0, second))) == f"..{first}{first}......"


def test_zero_length_owns_one_snippet():
    assert classes(targets((3.5, 3.5, "A"))) == "...A......"
    assert classes(targets((3.0, 3.0, "A"))) == "...A......"
    assert classes(targets((10.0, 10.0, "A"))) == ".........A"


def test_beyond_the_end_is_cut():
    assert classes(targets((8.0, 12.0, "A"))) == "........AA"
    assert classes(targets((11.0, 12.0, "A"))) == ".........A"


def test_one_snippet_for_all():
    assert classes(targets((2.0, 3.0, "A"), snippets=1)) == "A"


def test_hidden_seconds_are_not_known_but_where_an_instance_owns_them():
    found = targets((2.0, 5.0, "B"), hidden=[(4.0, 8.0), (9.5, 9.5)])
    assert classes(found) == "..BBB....."
    assert found.known[0].tolist() == [True] * 5 + [False] * 3 + [True, False]


def test_compat_rounds_inward():
    assert classes(targets((2.0, 7.0, "B"), compat="stale")) == "...BBB...."
    assert classes(targets((2.9, 7.9, "B"), compat="stale")) == "...BBB...."
    assert classes(targets((0.0, 12.0, "B"), compat="stale")) == ".BBBBBBBB."
    assert classes(targets((2.0, 3.0, "B"), compat="stale")) == "." * 10


def test_no_instances_is_all_background():
    found = targets()
    assert classes(found) == "." * 10
    assert not any(tensor.any() for tensor in (found.masks, found.foreground, found.video_classes))


def test_a_label_without_a_class_is_refused():
    with pytest.raises(KeyError):
        targets((0.0, 1.0, "Unseen"))


def test_stack_and_to():
    both = Targets.stack([targets((0.0, 1.0, "A")), targets((0.0, 1.0, "B"))]).to("cpu")
    assert [list(tensor.shape) for tensor in both.tensors()] == [[2, 10], [2, 10, 10], [2, 10], [2, 3], [2, 10]]
    assert both.first_classes.tolist() == [0, 1]


@given(SHARES, SHARES, st.integers(1, 300), st.floats(0.1, 1e5))
def test_a_span_covers_its_instance_and_little_more(one, other, snippets, duration):
    start, end = sorted((one, other))
    first, after = snippet_span(start * duration, end * duration, duration, snippets)
    assert 0 <= first < after <= snippets
    slack = 1e-5
    assert first <= min(start, 1) * snippets + slack
    assert after >= min(end, 1) * snippets - slack
    assert after - first <= max(1, math.ceil((min(end, 1) - min(start, 1)) * snippets) + 1)


@given(SHARES, SHARES, st.integers(1, 300))
def test_compat_lies_inside(one, other, snippets):
    start, end = sorted((one, other))
    first, after = snippet_span(start, end, 1.0, snippets, compat="stale")
    assert 0 <= first <= after <= snippets
    if after > first:
        assert start * snippets <= first
        assert after <= end * snippets


SPANS = st.lists(st.tuples(st.floats(0, 12), st.floats(0, 12), st.sampled_from("ABC")), max_size=5)


@given(SPANS, st.integers(1, 40))
def test_targets_agree_with_each_other(spans, snippets):
    instances = [(min(a, b), max(a, b), label) for a, b, label in spans]
    found = targets(*instances, snippets=snippets)
    foreground = found.foreground[0]
    assert torch.equal(found.snippet_classes[0] < BACKGROUND, foreground)
    assert torch.equal(found.masks[0].diagonal(), foreground)
    assert torch.equal(found.masks[0], found.masks[0].T)
    assert {index for index, here in enumerate(found.video_classes[0]) if here} == {CLASSES[i[2]] for i in instances}
    for start, end, _ in instances:
        first, after = snippet_span(start, end, 10.0, snippets)
        assert found.masks[0, first:after, first:after].all()
