"""ROC and precision-recall of labels, by hand and against torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_auroc, multiclass_average_precision

from training.threshold_curves import ThresholdCurves


def test_labels_without_probabilities_have_one_point() -> None:
    curves = ThresholdCurves()
    # Head: 3 true, of which 2 found, and 1 of 5 others.
    curves.add(np.array([[1, 1, 1, 0, 0, 0, 0, 2]], np.uint8), np.array([[1, 1, 0, 0, 0, 1, 0, 2]], np.uint8), None)
    head = curves.of(1)
    assert head is not None
    assert head.recall.tolist() == pytest.approx([0, 2 / 3, 1])
    assert head.fall_out.tolist() == pytest.approx([0, 1 / 5, 1])
    assert head.precision.tolist() == pytest.approx([2 / 3, 2 / 3, 3 / 8])
    assert head.roc_area == pytest.approx(2 / 3 * 1 / 5 / 2 + 4 / 5 * (2 / 3 + 1) / 2)
    assert head.average_precision == pytest.approx(2 / 3 * 2 / 3 + 1 / 3 * 3 / 8)


def test_a_label_that_no_pixel_has_or_all_have_has_no_curve() -> None:
    curves = ThresholdCurves()
    curves.add(np.ones((2, 2), np.uint8), np.ones((2, 2), np.uint8), None)
    assert curves.of(1) is None
    assert curves.of(3) is None


def test_areas_are_those_of_torchmetrics_for_the_same_scores() -> None:
    rng = np.random.default_rng(5)
    probabilities = np.zeros((4, 4000))
    true = rng.integers(0, 4, 4000)
    found = np.where(rng.random(4000) < 0.7, true, rng.integers(0, 4, 4000))
    confidence = np.round(rng.uniform(0.4, 1, 4000), 3)
    for label in range(4):
        probabilities[label] = np.where(found == label, confidence, np.round((1 - confidence) / 3, 3))
    curves = ThresholdCurves()
    for start in range(0, 4000, 1000):
        part = slice(start, start + 1000)
        shape = (20, 50)
        curves.add(
            true[part].astype(np.uint8).reshape(shape),
            found[part].astype(np.uint8).reshape(shape),
            confidence[part].astype(np.float32).reshape(shape),
        )
    scores, target = torch.from_numpy(probabilities.T.copy()), torch.from_numpy(true)
    areas = multiclass_auroc(scores, target, 4, average=None)
    precisions = multiclass_average_precision(scores, target, 4, average=None)
    assert areas is not None
    for label in range(4):
        ours = curves.of(label)
        assert ours is not None
        assert ours.roc_area == pytest.approx(float(areas[label]), abs=1e-4)
        assert ours.average_precision == pytest.approx(float(precisions[label]), abs=1e-4)
