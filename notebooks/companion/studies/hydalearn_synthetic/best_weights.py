r"""The weights of one step that lower the main task's held-out loss most, of two tasks, in closed form.

A tuned learning rate, and Adam, set how long a step is; weights decide where it goes. So steps :math:`d` of one length
are compared, :math:`d \propto -(w_m g_m + w_a g_a)` with weights of the simplex. To first order the held-out loss falls
by the length times :math:`\|g_{out}\|` times the cosine of :math:`-d` and the held-out gradient :math:`g_{out}`. The
cosine is greatest at :math:`w \propto G^{-1} c`, the projection of :math:`g_{out}` onto the two gradients, where that
has no negative part, and else at a corner of the simplex. (HydaLearn's weights are :math:`c` itself, with the main
gradient of the mini-batch in place of :math:`g_{out}`.)

- :math:`G`: inner products of the two tasks' gradients; :math:`c`: theirs with :math:`g_{out}`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Directions:
    """Inner products of the gradients of one mini-batch.

    Attributes:
        gram: Of the main and the auxiliary task's gradient, `[2, 2, R]`.
        along: Of both with the held-out gradient, `[2, R]`.
        length: Of the held-out gradient, `[R]`.
    """

    gram: Tensor
    along: Tensor
    length: Tensor

    @classmethod
    def of(cls, gradients: Tensor, held_out: Tensor) -> "Directions":
        """From task gradients `[2, R, D]` and the held-out one `[R, D]`."""
        return cls(
            torch.einsum("trd,srd->tsr", gradients, gradients),
            torch.einsum("trd,rd->tr", gradients, held_out),
            held_out.norm(dim=-1),
        )

    def best_share(self) -> Tensor:
        """The auxiliary task's share of the best weights, `[R]`."""
        (main, both), (_, auxiliary) = self.gram
        to_main = auxiliary * self.along[0] - both * self.along[1]  # G^-1 c times the determinant, which is positive
        to_auxiliary = main * self.along[1] - both * self.along[0]
        corner = (self.along[1] / auxiliary.sqrt() > self.along[0] / main.sqrt()).double()
        inside = (to_main > 0) & (to_auxiliary > 0)
        return torch.where(inside, to_auxiliary / (to_main + to_auxiliary), corner)

    def gain(self, share: Tensor) -> Tensor:
        """What a step with this share `[..., R]` gains, 1 being the most that any step of its length can: a cosine."""
        (main, both), (_, auxiliary) = self.gram
        rest = 1 - share
        squared = rest**2 * main + 2 * rest * share * both + share**2 * auxiliary
        gain: Tensor = (rest * self.along[0] + share * self.along[1]) / (squared.sqrt() * self.length)
        return gain
