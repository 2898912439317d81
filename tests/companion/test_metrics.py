"""Metrics per run against numbers worked out by hand."""

import numpy as np
import pytest
from companion.metrics.per_run import auc_per_run, log_loss_per_run


def test_auc_by_counting_pairs() -> None:
    labels = np.array([[0, 0, 1, 1], [0, 0, 1, 1]])
    scores = np.array([[0.1, 0.4, 0.35, 0.8], [0.0, 1.0, 2.0, 3.0]])
    # First run: of the four pairs (positive, negative) only 0.35 against 0.4 is out of order.
    assert auc_per_run(labels, scores) == pytest.approx([0.75, 1.0])


def test_log_loss_by_hand() -> None:
    logits = np.log([[3.0, 3.0], [1.0, 1.0]])  # probabilities 3/4 and 1/2
    expected = [-(np.log(3 / 4) + np.log(1 / 4)) / 2, np.log(2)]
    assert log_loss_per_run([[1, 0], [1, 0]], logits) == pytest.approx(expected, abs=1e-12)


def test_a_failed_run_is_nan_and_spoils_no_other() -> None:
    labels, scores = [[0, 1], [0, 1]], [[np.nan, 1.0], [0.0, 1.0]]
    assert np.isnan(auc_per_run(labels, scores)).tolist() == [True, False]
    assert np.isnan(log_loss_per_run(labels, scores)).tolist() == [True, False]
