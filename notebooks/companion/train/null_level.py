"""The null level of dominance: how many parameters one of two tasks dominates that differ by chance alone.

A task is trained against itself on another part of the batch. Use it with `ScaledLosses` and a recorder of shares in
place of the problem's losses, under the joint optimizer, the learning rate and the loss weights that it is the null of:

    losses_fn = ScaledLosses(against_itself(problem.losses_fn, task=0, num_tasks=2), loss_scales(runs, 2))

What joint training of the real tasks has above that level, same seed, is dominance that chance does not explain.
"""

from torch import Tensor, nn

from companion.train.stacked import Batch, LossesFn


def against_itself(losses_fn: LossesFn, task: int, num_tasks: int) -> LossesFn:
    """Make the losses of one task on `num_tasks` parts of the batch, which share its head and all else.

    A part has fewer rows than the batch, so its gradients are noisier than those of the tasks that it stands for: a
    batch `num_tasks` times as large gives parts of the same size, the same batch a level that is rather too high.

    Args:
        losses_fn: `losses_fn(model, (x [R, B, ...], y [T, R, B, ...]))` gives the losses of all tasks.
        task: Which of them, from 0.
        num_tasks: Number of parts, as many as there are tasks that are compared with the null level.
    """

    def parts(model: nn.Module, batch: Batch) -> list[Tensor]:
        x, y = batch
        pairs = zip(x.tensor_split(num_tasks, dim=1), y.tensor_split(num_tasks, dim=2), strict=True)
        return [losses_fn(model, pair)[task] for pair in pairs]

    return parts
