"""Solutions to the exercises of notebook 05, one function each.

`python -m companion.coursework.student solve` inserts them.
"""

import torch


def relative_updates(updates, rho):
    au = torch.zeros_like(updates[0])  # [T, n]
    for update in updates:
        au = rho * au + (1 - rho) * update**2
    return au / au.sum(0)


def adatask_adam(theta, gradients, lr, beta1, beta2, eps):
    m, G = torch.zeros_like(gradients[0]), torch.zeros_like(gradients[0])  # [T, n]
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        G = beta2 * G + (1 - beta2) * g**2
        m_hat, G_hat = m / (1 - beta1**t), G / (1 - beta2**t)
        theta = theta - lr * (m_hat / (G_hat.sqrt() + eps)).sum(0)
    return theta


def joint_adam_parts(gradients, lr, beta1, beta2, eps):
    m, G = torch.zeros_like(gradients[0]), torch.zeros_like(gradients[0, 0])  # [T, n], [n]
    parts = []
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g  # the numerator is linear, so it can be kept per task
        G = beta2 * G + (1 - beta2) * g.sum(0) ** 2  # the square of the sum
        parts.append(-lr * m / (1 - beta1**t) / ((G / (1 - beta2**t)).sqrt() + eps))
    return torch.stack(parts)


def adatask_adamw(theta, gradients, task_weights, lr, beta1, beta2, eps, weight_decay):
    m, G = torch.zeros_like(gradients[0]), torch.zeros_like(gradients[0])  # [T, n]
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        G = beta2 * G + (1 - beta2) * g**2
        updates = m / (1 - beta1**t) / ((G / (1 - beta2**t)).sqrt() + eps)
        theta = (1 - lr * weight_decay) * theta - lr * (task_weights[:, None] * updates).sum(0)
    return theta


def expected_share(snr_a, snr_b, beta1):
    c = (1 - beta1) / (1 + beta1)  # what is left of the noise's variance in Adam's first moment
    square_a = (snr_a + c) / (snr_a + 1)
    square_b = (snr_b + c) / (snr_b + 1)
    return square_a / (square_a + square_b)
