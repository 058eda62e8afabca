import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from components.evaluation.inception import inception_score


def rows(count=40, classes=7, seed=0):
    return softmax(np.random.default_rng(seed).normal(size=(count, classes)) * 3, axis=1)


def by_definition(probabilities):
    """exp of the mean KL divergence from the marginal, which is the mutual information H(y) - H(y|x)."""
    marginal = probabilities.mean(axis=0)
    return np.exp(entropy(marginal) - np.mean([entropy(row) for row in probabilities]))


@pytest.mark.parametrize("splits", [1, 2, 5])
def test_the_score_is_the_exponential_of_the_mutual_information(splits):
    found = inception_score(rows(), splits=splits)
    scores = [by_definition(part) for part in np.split(rows(), splits)]
    assert found == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-12)


def test_sure_and_varied_samples_score_the_number_of_classes():
    assert inception_score(np.eye(10), splits=1) == (pytest.approx(10), 0.0)


def test_one_class_or_no_opinion_scores_one():
    assert inception_score(np.eye(10)[[3] * 8], splits=2) == (pytest.approx(1), 0.0)
    assert inception_score(np.full((8, 10), 0.1), splits=2) == (pytest.approx(1), pytest.approx(0, abs=1e-12))


def test_every_sample_is_in_a_split_also_where_they_do_not_divide():
    uneven = rows(11)
    scores = [by_definition(uneven[:3]), by_definition(uneven[3:7]), by_definition(uneven[7:])]
    assert inception_score(uneven, splits=3)[0] == pytest.approx(np.mean(scores))


def test_float32_rows_that_sum_to_one_up_to_rounding_are_taken():
    assert inception_score(rows().astype(np.float32), splits=1)[0] == pytest.approx(
        by_definition(rows()), rel=1e-6
    )


@pytest.mark.parametrize(
    ("probabilities", "splits", "words"),
    [
        (np.ones((4, 3)), 1, "softmax outputs"),
        (np.array([[1.5, -0.5]]), 1, "not negative"),
        (np.array([[np.nan, 1.0]]), 1, "finite"),
        (np.eye(3), 4, "3 samples cannot be divided into 4"),
        (np.ones(3), 1, r"\(N, classes\)"),
    ],
)
def test_what_is_no_distribution_is_refused(probabilities, splits, words):
    with pytest.raises(ValueError, match=words):
        inception_score(probabilities, splits=splits)
