import math

import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from balance_tune.training.details import by_class, calibration_error, confusion

GUESSES, LABELS = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 2, 0])


def test_a_row_of_the_confusion_matrix_is_a_true_class() -> None:
    assert confusion(GUESSES, LABELS, 4) == [[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]]


def test_classes_are_told_as_scikit_learn_tells_them() -> None:
    table = confusion(GUESSES, LABELS, 3)
    precision, recall, f1, rows = precision_recall_fscore_support(LABELS, GUESSES)
    for i, told in enumerate(by_class(table, ["a", "b", "c"])):
        assert told["class"] == "abc"[i]
        assert told["rows"] == rows[i]
        assert [told["accuracy"], told["precision"], told["f1"]] == pytest.approx([recall[i], precision[i], f1[i]])


def test_a_class_without_rows_has_no_accuracy() -> None:
    (_, _, _, absent) = by_class(confusion(GUESSES, LABELS, 4), ["a", "b", "c", "d"])
    assert absent == {"class": "d", "rows": 0, "accuracy": None, "precision": None, "f1": None}


def test_calibration_is_the_slow_and_obvious_sum() -> None:
    torch.manual_seed(0)
    probabilities, labels = torch.randn(200, 5).mul(2).softmax(1), torch.randint(0, 5, (200,))
    expected = 0.0
    for b in range(15):
        inside = [i for i in range(200) if b / 15 < float(probabilities[i].max()) <= (b + 1) / 15]
        if inside:
            right = sum(int(probabilities[i].argmax()) == int(labels[i]) for i in inside) / len(inside)
            sure = sum(float(probabilities[i].max()) for i in inside) / len(inside)
            expected += len(inside) / 200 * abs(right - sure)
    assert math.isclose(calibration_error(probabilities, labels), expected, rel_tol=1e-6)


def test_always_right_and_sure_is_perfectly_calibrated_and_always_wrong_is_not() -> None:
    certain = torch.eye(3)
    assert calibration_error(certain, torch.tensor([0, 1, 2])) == 0.0
    assert calibration_error(certain, torch.tensor([1, 2, 0])) == 1.0
