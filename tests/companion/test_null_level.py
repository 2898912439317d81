"""A task against itself: the parts' mean is the whole batch's loss, and parts that are equal share all updates."""

import torch
from companion.networks.shared_bottom import SharedBottom
from companion.train.losses import squared_losses
from companion.train.null_level import against_itself
from companion.train.share_recorder import ShareRecorder
from companion.train.stacked import StackedModel
from companion.train.weightings import TaskGradients


def problem() -> tuple[StackedModel, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    networks = [SharedBottom(3, [4], 2, generator=generator, dtype=torch.float64) for _ in range(2)]
    x, y = (torch.randn(*shape, generator=generator).double() for shape in ((2, 6, 3), (2, 2, 6)))
    return StackedModel(networks), x, y


def test_the_mean_over_equal_parts_is_the_tasks_loss() -> None:
    model, x, y = problem()
    for num_tasks in (2, 3):
        losses = against_itself(squared_losses, 1, num_tasks)(model, (x, y))
        assert len(losses) == num_tasks
        torch.testing.assert_close(sum(losses) / num_tasks, squared_losses(model, (x, y))[1])
    first, second = against_itself(squared_losses, 1, 2)(model, (x, y))
    torch.testing.assert_close(first, squared_losses(model, (x[:, :3], y[:, :, :3]))[1])
    torch.testing.assert_close(second, squared_losses(model, (x[:, 3:], y[:, :, 3:]))[1])


def test_parts_that_are_equal_leave_nothing_dominated() -> None:
    model, x, y = problem()
    shared = list(model.stack.shared_parameters())  # type: ignore[operator]
    weighting = TaskGradients(model, against_itself(squared_losses, 0, 2), shared)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    recorder = ShareRecorder(optimizer, [shared], every=1)
    weighting.backward((torch.cat([x, x], 1), torch.cat([y, y], 2)))
    optimizer.step()
    found = recorder.measures()
    torch.testing.assert_close(found[0, "last task, updates, end"], torch.full((2,), 0.5, dtype=torch.float64))
    assert not found[0, "dominated, updates, end"].any()
