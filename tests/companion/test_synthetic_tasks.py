"""The synthetic problems and their batches are what their names say."""

import numpy as np
import pytest
import torch
from companion.problems.composed_batches import (
    CONCENTRATION,
    DOSES,
    ListedBatches,
    list_batches,
    minor_counts,
)
from companion.problems.synthetic_tasks import composition, drift, random_function, related
from companion.train.stacked import RunData

ROWS = (400, 300, 2000)


def test_a_random_function_has_mean_0_and_variance_1() -> None:
    rng = np.random.default_rng(0)
    f = random_function(rng)
    values = f(rng.normal(size=(20000, 10)))
    assert abs(values.mean()) < 0.1
    assert abs(values.std() - 1) < 0.1
    assert np.abs(np.corrcoef(values, random_function(rng)(rng.normal(size=(20000, 10))))[0, 1]) < 0.05


def test_the_auxiliary_is_f_or_minus_f_and_the_cluster_is_hidden() -> None:
    problem = composition(3, ROWS, noise=0.5)
    main, auxiliary = problem.targets["test"]
    same, opposite = np.isclose(auxiliary, main), np.isclose(auxiliary, -main)
    assert (same | opposite).all()  # no noise in the test fold
    assert opposite.sum() == 500  # exactly a quarter
    x = problem.inputs["test"]
    assert np.abs([np.corrcoef(x[:, j], opposite)[0, 1] for j in range(x.shape[1])]).max() < 0.1
    main, auxiliary = problem.targets["train"]
    assert problem.clusters.sum() == 100
    noise = main - np.where(problem.clusters, -auxiliary, auxiliary)
    assert abs(noise.std() - 0.5) < 0.1
    assert composition(3, ROWS, 0.5).targets["train"].tobytes() == problem.targets["train"].tobytes()
    assert not np.array_equal(composition(4, ROWS, 0.5).inputs["train"], problem.inputs["train"])


def test_the_jump_goes_from_f_to_an_unrelated_function() -> None:
    main, same, unrelated = drift(0, ROWS, noise=1.0).targets["test"]
    assert np.array_equal(main, same)
    assert abs(np.corrcoef(main, unrelated)[0, 1]) < 0.5
    together = [np.corrcoef(*drift(seed, ROWS, 1.0).targets["test"][[0, 2]])[0, 1] for seed in range(20)]
    assert abs(np.mean(together)) < 0.15


def test_related_auxiliaries_share_half_of_their_variance_with_the_main_task() -> None:
    correlations, spreads = [], []
    for seed in range(20):
        targets = related(seed, ROWS, 1.0, scales=(1.0, 3.0, 1.0), num_related=2).targets["test"]
        correlations.append([np.corrcoef(targets[0], y)[0, 1] for y in targets[1:]])
        spreads.append(targets[1:].std(1))
    assert np.abs(np.mean(correlations, axis=0) - [0.5**0.5, 0.5**0.5, 0]).max() < 0.15
    assert np.mean(spreads, axis=0) == pytest.approx([1, 3, 1], rel=0.15)


@pytest.mark.parametrize("dose", DOSES)
def test_every_dose_has_the_same_share_of_the_minor_cluster(dose: str) -> None:
    counts = minor_counts(dose, 0.25, 40, 200)
    assert abs(counts.mean() / 40 - 0.25) < 0.002


def test_doses_differ_in_how_much_composition_varies() -> None:
    spread = {dose: float(minor_counts(dose, 0.25, 40, 2000).var()) / 40**2 for dose in DOSES}
    binomial = 0.25 * 0.75 / 40
    assert spread["fixed"] == 0
    assert spread["i.i.d."] == pytest.approx(binomial, rel=0.03)
    beta = 0.25 * 0.75 / (CONCENTRATION + 1)  # variance of the share
    assert spread["Beta-mixed"] == pytest.approx(beta + (0.25 * 0.75 - beta) / 40, rel=0.03)
    assert spread["homogeneous"] == pytest.approx(0.25 * 0.75, rel=0.01)
    with pytest.raises(ValueError, match="Parameter `dose`"):
        minor_counts("iid", 0.25, 40, 10)


def test_listed_batches_have_their_counts_and_no_row_twice() -> None:
    rng = np.random.default_rng(0)
    clusters = rng.permutation(200) < 50
    counts = minor_counts("Beta-mixed", 0.25, 40, 30)
    batches = list_batches(clusters, counts, 40, rng)
    assert sorted(clusters[batches].sum(1)) == list(counts)
    assert list(clusters[batches].sum(1)) != list(counts)  # in random order
    assert all(len(set(batch)) == 40 for batch in batches.tolist())
    with pytest.raises(ValueError, match="at least 40 rows"):
        list_batches(clusters[:100], np.array([40]), 40, rng)


def test_a_listed_batch_is_read_as_one_row() -> None:
    inputs = torch.arange(2 * 5 * 3, dtype=torch.float64).reshape(2, 5, 3)
    targets = torch.arange(2 * 2 * 5, dtype=torch.float64).reshape(2, 2, 5)
    data = RunData(inputs, targets, torch.tensor([0, 1, 1]))
    batches = np.array([[[0, 1], [2, 3]], [[4, 3], [1, 0]]])  # [S, M, B]
    listed = ListedBatches.of(data, batches)
    assert listed.num_rows == 2
    x, y = listed.batch(torch.tensor([[0], [1], [0]]))
    assert torch.equal(x, torch.stack([inputs[0, [0, 1]], inputs[1, [1, 0]], inputs[1, [4, 3]]]))
    assert torch.equal(y[1], torch.stack([targets[0, 1, [0, 1]], targets[1, 1, [1, 0]], targets[1, 1, [4, 3]]]))
