"""Recommendation networks: one table of embeddings per field, then a shared bottom or a mixture of experts."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from companion.networks.shared_bottom import Masked, SharedBottom

SPREAD = 0.1  # standard deviation of initial embeddings: our choice, small beside what training makes of them


class FieldEmbeddings(nn.Module):
    """One table of embeddings per field, looked up and joined.

    Args:
        sizes: Field -> rows of its table, in the order of the ids.
        width: Numbers per embedding D.
        sparse: Whether gradients hold the rows that a batch touches only.
        generator: Source of the initial values, normal with standard deviation 0.1; `None` takes torch's global one.
        dtype: Type of the parameters.

    Example:
        >>> tables = FieldEmbeddings({"user": 5, "film": 7}, 2)
        >>> tables(torch.tensor([[4, 6], [0, 0], [1, 2]])).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        width: int,
        *,
        sparse: bool = False,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Draw the tables."""
        super().__init__()
        self.tables = nn.ModuleDict(
            {field: nn.Embedding(size, width, sparse=sparse, dtype=dtype) for field, size in sizes.items()}
        )
        for p in self.parameters():
            nn.init.normal_(p, std=SPREAD, generator=generator)

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids `[..., fields]` to features `[..., fields * D]`."""
        return torch.cat([table(ids[..., i]) for i, table in enumerate(self.tables.values())], dim=-1)

    def layers(self) -> dict[str, list[nn.Parameter]]:
        """Return each table under the name of its field."""
        return {field: list(table.parameters()) for field, table in self.tables.items()}


class EmbeddedBottom(nn.Module):
    """Tables of embeddings and a multilayer perceptron that all tasks share, with one linear head per task.

    Args:
        sizes: Field -> rows of its table.
        width: Numbers per embedding.
        hidden: Widths of the shared layers.
        num_tasks: Number of tasks T.
        generator: Source of the initial weights; `None` takes torch's global one.
        dtype: Type of the parameters.

    Example:
        >>> model = EmbeddedBottom({"user": 5, "film": 7}, 2, [8], num_tasks=3)
        >>> [tuple(logits.shape) for logits in model(torch.tensor([[4, 6], [0, 0]]))]
        [(2,), (2,), (2,)]
        >>> list(model.shared_layers())
        ['user', 'film', 'layer 1']
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        width: int,
        hidden: Sequence[int],
        num_tasks: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Draw the initial weights: tables first, then the layers in their order."""
        super().__init__()
        self.embeddings = FieldEmbeddings(sizes, width, generator=generator, dtype=dtype)
        self.bottom = SharedBottom(len(sizes) * width, hidden, num_tasks, generator=generator, dtype=dtype)

    def forward(self, ids: Tensor) -> list[Tensor]:
        """Map ids `[..., fields]` to T logits `[...]`."""
        logits: list[Tensor] = self.bottom(self.embeddings(ids))
        return logits

    def shared_layers(self) -> dict[str, list[nn.Parameter]]:
        """Return the shared parameters by table and layer."""
        parameters = self.bottom.shared_parameters()
        pairs = {f"layer {1 + i // 2}": parameters[i : i + 2] for i in range(0, len(parameters), 2)}
        return self.embeddings.layers() | pairs

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that every task reaches; the rest belong to the heads."""
        return [p for layer in self.shared_layers().values() for p in layer]


class MMoE(nn.Module):
    r"""Multi-gate mixture of experts over tables of embeddings.

    .. math:: f_t(x) = h_t\Big(\sum_{e} \operatorname{softmax}(G_t x)_e\, E_e(x)\Big)

    - x: the joined embeddings; :math:`E_e`: expert e, one linear layer and a ReLU, shared by all tasks;
    - :math:`G_t`: the gate of task t, a linear map to one number per expert; :math:`h_t`: its linear head.

    Source: Ma et al., KDD 2018, doi 10.1145/3219819.3220007. Experts of one layer and heads without hidden layers are
    our choice. Gates and heads belong to their task; tables and experts are shared.

    Args:
        sizes: Field -> rows of its table.
        width: Numbers per embedding.
        experts: Number of experts.
        hidden: Width of each expert.
        num_tasks: Number of tasks T.
        masked: Whether `Masked` units follow the joined embeddings, for dropout.
        sparse: Whether the tables' gradients hold the rows that a batch touches only.
        generator: Source of the initial weights; `None` takes torch's global one.
        dtype: Type of the parameters.

    Example:
        >>> model = MMoE({"user": 5, "film": 7}, 2, experts=2, hidden=4, num_tasks=3)
        >>> [tuple(logits.shape) for logits in model(torch.tensor([[4, 6], [0, 0]]))]
        [(2,), (2,), (2,)]
        >>> list(model.shared_layers())
        ['user', 'film', 'experts']
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        width: int,
        experts: int,
        hidden: int,
        num_tasks: int,
        *,
        masked: bool = False,
        sparse: bool = False,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Draw the initial weights: linear layers as torch's default, from the generator."""
        super().__init__()
        self.embeddings = FieldEmbeddings(sizes, width, sparse=sparse, generator=generator, dtype=dtype)
        inputs = len(sizes) * width
        self.mask = Masked(inputs, dtype) if masked else nn.Identity()
        self.experts = nn.Linear(inputs, experts * hidden, dtype=dtype)  # of one layer each, side by side
        self.gates = nn.ModuleList(nn.Linear(inputs, experts, bias=False, dtype=dtype) for _ in range(num_tasks))
        self.heads = nn.ModuleList(nn.Linear(hidden, 1, dtype=dtype) for _ in range(num_tasks))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                for p in module.parameters():
                    nn.init.uniform_(p, -bound, bound, generator=generator)

    def forward(self, ids: Tensor) -> list[Tensor]:
        """Map ids `[..., fields]` to T logits `[...]`."""
        features = self.mask(self.embeddings(ids))  # [..., fields * D]
        opinions = self.experts(features).relu().unflatten(-1, (self.gates[0].out_features, -1))  # [..., experts, H]
        logits = []
        for gate, head in zip(self.gates, self.heads, strict=True):
            shares = gate(features).softmax(-1)  # [..., experts]
            scores = (opinions @ head.weight.mT).squeeze(-1)  # [..., experts]: linear heads may come before the mixture
            logits.append((shares * scores).sum(-1) + head.bias)
        return logits

    def shared_layers(self) -> dict[str, list[nn.Parameter]]:
        """Return the shared parameters: each table, and the experts."""
        return self.embeddings.layers() | {"experts": list(self.experts.parameters())}

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of tables and experts; gates and heads belong to their task."""
        return [p for layer in self.shared_layers().values() for p in layer]
