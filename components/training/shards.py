"""What this process holds of the trained parameters and of the optimizer's state, the same to ask at every ZeRO stage.

DeepSpeed lays parameters out differently at each stage: whole (0), as pieces of one flat float32 group (1 and 2), or
as one equal part per process (3). Here each is a run of elements of a named parameter, so that averages are kept where
the weights are, and a checkpoint can be cut anew for any number of processes and any stage.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from components.training.optimizers import KEPT, kept_of

WEIGHT = "weight"


class Stored(Protocol):
    """Whole parameters and moments to take elements from, such as a checkpoint."""

    def read(self, kind: str, name: str, start: int, count: int) -> Tensor:
        """Elements of a flat parameter (`WEIGHT`), or of what the optimizer keeps of it; float32 on the CPU."""
        ...

    def steps(self, name: str) -> int:
        """Updates that the optimizer has given to a parameter."""
        ...


@dataclass(frozen=True)
class Shard:
    """Elements `start` to `start + count` of a flat parameter, which this process saves and averages.

    `flat` is what the optimizer updates (its state goes by that tensor) and holds the elements from `offset` on.
    """

    name: str
    parameter: Any  # with DeepSpeed's attributes
    shape: torch.Size
    start: int
    count: int
    flat: Tensor
    offset: int

    @property
    def weight(self) -> Tensor:
        """The float32 elements: a view where the memory allows, in the parameter's shape where it is all of it."""
        return self.cut(self.flat.detach())

    def cut(self, tensor: Tensor) -> Tensor:
        """The elements of something laid out as `flat`."""
        if self.count == tensor.numel():
            return tensor
        return tensor.reshape(-1)[self.offset : self.offset + self.count]


class Shards:
    """The shards of this process. `driven` is the optimizer that DeepSpeed drives."""

    def __init__(
        self, named: Sequence[tuple[str, nn.Parameter]], driven: torch.optim.Optimizer, engine: Any
    ) -> None:
        """named: the trained parameters; engine: DeepSpeed's."""
        self.driven = driven
        self.zero_stage: int = engine.zero_optimization_stage()
        self._optimizer = engine.optimizer
        rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
        locate: Locate = (_slice, _fragment, _fragment, _partition)[self.zero_stage]
        found = [locate(name, parameter, self._optimizer, (rank, processes)) for name, parameter in named]
        self.named = list(named)
        self.own = [shard for shard in found if shard is not None and shard.count]
        # views: what they show is always new
        self._weights = {shard.name: shard.weight for shard in self.own}

    def weights(self) -> dict[str, Tensor]:
        """The elements of this process by parameter name."""
        return dict(self._weights)

    def kept(self) -> dict[str, tuple[Tensor, int]]:
        """What the optimizer keeps of updated parameters, as `kind/name`: elements, and the number of the first.

        Rows and columns, which do not have the parameter's shape, are saved whole by rank 0.
        """
        found = {}
        for shard in self.own:
            for kind, value in self.driven.state.get(shard.flat, {}).items():
                if kind in KEPT and value.numel() == shard.flat.numel():
                    found[f"{kind}/{shard.name}"] = (shard.cut(value), shard.start)
                elif kind in KEPT and torch.distributed.get_rank() == 0:
                    found[f"{kind}/{shard.name}"] = (value, 0)
        return found

    def updates(self) -> dict[str, int]:
        """Updates per parameter, as far as this process knows."""
        states = {shard.name: self.driven.state.get(shard.flat) for shard in self.own}
        counted = {name: state["step"] for name, state in states.items() if state}
        if not all(isinstance(count, Tensor) for count in counted.values()) or not counted:
            return counted
        fetched = torch.stack([count.float() for count in counted.values()]).tolist()
        return dict(zip(counted, map(int, fetched), strict=True))

    def load(self, stored: Stored) -> None:
        """Take up weights and moments; every process reads what it holds."""
        most = max((stored.steps(name) for name, _ in self.named), default=0)
        for shard in self.own:
            whole = self.zero_stage == 0  # held whole, though each process saves a part
            start, count = (0, shard.shape.numel()) if whole else (shard.start, shard.count)
            # one group of the optimizer holds many parameters at the other stages, and counts once for all of them
            steps = stored.steps(shard.name) if whole else most
            _put(shard, shard.flat.detach(), stored.read(WEIGHT, shard.name, start, count))
            if not steps:  # what it has been given since is undone
                self.driven.state.pop(shard.flat, None)
            else:
                for kind, value in self._kept(shard.flat, steps).items():
                    if value.numel() == shard.flat.numel():
                        _put(shard, value, stored.read(kind, shard.name, start, count))
                    else:
                        value.copy_(stored.read(kind, shard.name, 0, value.numel()).view(value.shape))
        self._refresh(stored)

    def show(self, weights: Mapping[str, Tensor]) -> None:
        """Have the forward pass of ZeRO 3 read these elements."""
        for shard in self.own:
            part: Tensor = cast(Any, shard.parameter).ds_tensor
            part.view(-1)[: shard.count].copy_(weights[shard.name].reshape(-1))
        if gathered := self._optimizer.persistent_parameters:
            gathered[0].partition(gathered)  # small ones, kept whole on every process
            gathered[0].all_gather(gathered)

    def _kept(self, flat: Tensor, steps: int) -> dict[str, Tensor]:
        """What the optimizer keeps of a parameter, made where it has not been updated yet."""
        state: dict[str, Any] = self.driven.state[flat]
        if not state:
            state.update(kept_of(self.driven, flat))
        counted = isinstance(self.driven, torch.optim.AdamW)
        state["step"] = torch.full((), float(steps), device=flat.device) if counted else steps
        return {kind: value for kind, value in state.items() if kind in KEPT}

    def _refresh(self, stored: Stored) -> None:
        """Bring what the forward pass reads up to the optimizer's weights."""
        if self.zero_stage in (1, 2):
            for name, parameter in self.named:
                whole = stored.read(WEIGHT, name, 0, parameter.numel())
                parameter.data.copy_(whole.view(parameter.shape))
        if self.zero_stage == 3:
            self.show(self._weights)


Locate = Callable[[str, nn.Parameter, Any, tuple[int, int]], Shard | None]


def _slice(name: str, parameter: nn.Parameter, _optimizer: Any, place: tuple[int, int]) -> Shard:
    """ZeRO 0: all processes hold all of it; each answers for an equal part."""
    rank, processes = place
    size = -(-parameter.numel() // processes)
    start = min(rank * size, parameter.numel())
    count = min(size, parameter.numel() - start)
    return Shard(name, parameter, parameter.shape, start, count, parameter, start)


def _fragment(name: str, parameter: Any, optimizer: Any, _place: tuple[int, int]) -> Shard | None:
    """ZeRO 1 and 2: this process's run of the flat group may cover a part of a parameter, or none."""
    mapping = parameter._hp_mapping  # noqa: SLF001  # where DeepSpeed says what is here
    if mapping is None:
        return None
    here, there = mapping.lp_fragment_address, mapping.hp_fragment_address
    flat = optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
    return Shard(name, parameter, parameter.shape, here.start, here.numel, flat, there.start)


def _partition(name: str, parameter: Any, optimizer: Any, place: tuple[int, int]) -> Shard:
    """ZeRO 3: equal parts, the last one filled up."""
    group, offset, size = optimizer.grad_position[optimizer.get_param_id(parameter)]
    start = min(place[0] * size, parameter.ds_numel)
    count = min(size, parameter.ds_numel - start)
    flat = optimizer.fp32_partitioned_groups_flat[group]
    return Shard(name, parameter, parameter.ds_shape, start, count, flat, offset)


def _put(shard: Shard, target: Tensor, values: Tensor) -> None:
    if values.numel() == target.numel():
        target.copy_(values.view(target.shape))
    else:
        target.view(-1)[shard.offset : shard.offset + values.numel()].copy_(values)
