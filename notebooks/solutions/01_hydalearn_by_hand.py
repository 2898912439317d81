"""Solutions to the exercises of notebook 01, one function each.

`python -m companion.coursework.student solve` inserts them.
"""

import torch


def weights_from_gains(gains, main_task):
    helpful = gains.clamp(min=0)
    if helpful.sum() == 0:
        weights = torch.zeros_like(gains)
        weights[main_task] = 1
        return weights
    return helpful / helpful.sum()


def first_order_gains(gradients, main_task, trial_step):
    products = [sum((m * g).sum() for m, g in zip(gradients[main_task], task)) for task in gradients]
    return trial_step * torch.stack(products)


def exact_gains(model, losses_of, main_task, trial_step):
    parameters = list(model.parameters())
    losses = losses_of(model)
    gradients = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
    start = [p.detach().clone() for p in parameters]
    gains = []
    with torch.no_grad():
        for task in gradients:
            for p, p_start, g in zip(parameters, start, task):
                p.copy_(p_start - trial_step * g)
            gains.append(losses[main_task] - losses_of(model)[main_task])
        for p, p_start in zip(parameters, start):
            p.copy_(p_start)
    return torch.stack(gains)


def scale_free_contributions(gradients, main_task):
    main = gradients[main_task]
    lengths = gradients.norm(dim=1, keepdim=True)
    directions = gradients / lengths.where(lengths > 0, 1)  # a task without a gradient has no direction
    cosine = directions @ directions[main_task]
    contributions = main.norm() * cosine.clamp(min=0)[:, None] * directions
    contributions[main_task] = main
    return contributions


def unbiased_gain(main_gradients, task_gradients, trial_step):
    # all pairs of examples, less the pairs of an example with itself, whose noise is the same on both sides
    count = len(main_gradients)
    all_pairs = main_gradients.sum(0) @ task_gradients.sum(0)
    same = (main_gradients * task_gradients).sum()
    return trial_step * (all_pairs - same) / (count * (count - 1))
