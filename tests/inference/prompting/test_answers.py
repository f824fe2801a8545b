"""The candidate that is meant, and what of it is the object."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wsi_sampath.inference.prompting.answers import ranked, without_specks

NOWHERE = np.zeros((0, 2), np.int64)


def squares(*sides):
    logits = torch.full((len(sides), 20, 20), -4.0)
    for plane, side in zip(logits, sides, strict=True):
        plane[:side, :side] = 4
    return logits


@pytest.mark.parametrize(("pick", "index"), [("best", 2), ("largest", 1), ("smallest", 2)])
def test_one_candidate_is_picked(pick, index):
    quality = torch.tensor([0.7, 0.2, 0.9, 0.99])
    assert ranked(squares(8, 12, 4, 0), quality, pick)[0] == index


def test_of_equals_the_first_is_picked():
    assert ranked(squares(8, 8), torch.tensor([0.5, 0.5]), "best") == [0, 1]
    assert ranked(squares(8, 8), torch.tensor([0.5, 0.9]), "largest") == [0, 1]


def test_quality_that_is_no_number_is_never_best():
    assert ranked(squares(8, 8), torch.tensor([torch.nan, 0.1]), "best") == [1, 0]


def pieces():
    mask = np.zeros((40, 40), bool)
    mask[2:22, 2:22] = True
    mask[10:12, 10:12] = False
    mask[30:33, 30:33] = True
    return mask


def test_specks_go_and_pinholes_are_filled():
    cleaned = without_specks(pieces(), NOWHERE, NOWHERE, 0.05)
    assert cleaned.sum() == 20 * 20
    assert not cleaned[30:, 30:].any()


def test_what_is_pointed_at_stays():
    cleaned = without_specks(pieces(), np.array([[31, 31]]), np.array([[10, 11]]), 0.05)
    assert np.array_equal(cleaned, pieces())


def test_no_share_leaves_the_mask_alone():
    assert np.array_equal(without_specks(pieces(), NOWHERE, NOWHERE, 0.0), pieces())


def test_background_in_a_corner_is_no_hole():
    mask = np.ones((40, 40), bool)
    mask[0, 0] = False
    assert not without_specks(mask, NOWHERE, NOWHERE, 0.5)[0, 0]


def test_nothing_stays_nothing():
    assert not without_specks(np.zeros((9, 9), bool), NOWHERE, NOWHERE, 0.5).any()
