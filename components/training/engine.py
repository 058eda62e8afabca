"""DeepSpeed under every training stage, on one CPU process as on many GPUs.

Differences between ZeRO stages end here: the loop sees float32 weights, a gradient norm and a state on disk.
The optimizer is PyTorch's own AdamW and no operator of DeepSpeed's is compiled (its CPU Adam takes 154 s to
build, its shared-memory collectives 32 s, neither is used in training). bf16 is DeepSpeed's autocast: weights,
gradient clipping and optimizer stay in float32, so exported weights and averages need no second copy.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from components import runtime
from components.errors import UserError
from components.training.config import LoopConfig
from components.training.schedule import learning_rate

log = logging.getLogger(__name__)
STATE_TAG = "engine"  # folder of DeepSpeed's files inside a checkpoint
NEVER = 10**12  # steps between DeepSpeed's own progress lines


class Engine:
    """A module below DeepSpeed. `module` is what a program calls."""

    def __init__(self, module: nn.Module, config: LoopConfig) -> None:
        """Raises `UserError` where there is nothing to train."""
        self.config = config
        self.launch = runtime.launch()
        self._raw = module
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not trained:
            raise UserError("no parameter of this stage is trainable; check `trainable`")
        if config.activation_checkpointing:
            enable_activation_checkpointing(module)
        deepspeed = _joined_deepspeed()
        self._linear = nn.functional.linear
        settings = config.optimizer
        optimizer = torch.optim.AdamW(
            trained,
            lr=learning_rate(settings, 0, config.steps),
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,  # one kernel per tensor instead of a dozen: counts where tensors are small
        )
        self._engine: Any = deepspeed.initialize(
            model=module, optimizer=optimizer, config=deepspeed_config(config), dist_init_required=False
        )[0]

    @property
    def module(self) -> nn.Module:
        return cast(nn.Module, self._engine)

    @property
    def is_main(self) -> bool:
        return self.launch.rank == 0

    def backward(self, loss: Tensor) -> None:
        """Add this batch's gradients; losses of one optimizer step are averaged."""
        self._engine.backward(loss)

    def step(self, *, lr: float, last: bool) -> float:
        """End one backward pass. After the `last` of an optimizer step, clip and apply; returns the gradient norm.

        A norm that is not finite is returned and nothing is applied.
        """
        norm = self._clip() if last and self.config.zero_stage == 0 else 0.0
        if not isfinite(norm):
            return norm
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        self._engine.step()  # ZeRO clips by itself, and skips the update when the norm is not finite
        if last and self.config.zero_stage > 0:
            norm = float(self._engine.get_global_grad_norm())
        return norm

    def _clip(self) -> float:
        trained = [parameter for parameter in self._raw.parameters() if parameter.grad is not None]
        return float(nn.utils.clip_grad_norm_(trained, self.config.optimizer.clip))

    def weights(self) -> dict[str, Tensor]:
        """Float32 master weights by name, without a copy; under ZeRO 3 the shards of this process."""
        return {
            name: cast(Tensor, getattr(parameter, "ds_tensor", parameter)).detach()
            for name, parameter in self._raw.named_parameters()
            if parameter.requires_grad
        }

    def save(self, folder: Path) -> None:
        """Write module and optimizer; every process takes part."""
        with _quiet():
            self._engine.save_checkpoint(str(folder), tag=STATE_TAG, save_latest=False)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote with the same number of processes."""
        with _quiet():
            self._engine.load_checkpoint(str(folder), tag=STATE_TAG)

    def mean(self, values: Sequence[float]) -> list[float]:
        """Mean of each value over the processes."""
        if self.launch.world_size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self._engine.device)
        torch.distributed.all_reduce(total)
        return cast(list[float], (total / self.launch.world_size).tolist())

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.launch.world_size > 1:
            torch.distributed.barrier()

    def release(self, weights: Mapping[str, Tensor]) -> None:
        """Put `weights` into the module and give it back whole, as plain parameters; the engine is gone after."""
        for name, current in self.weights().items():
            current.copy_(weights[name])
        whole = {name: self._whole(parameter) for name, parameter in self._raw.named_parameters()}
        self.close()
        for name, parameter in self._raw.named_parameters():
            parameter.data = whole[name]
            parameter.grad = None

    def close(self) -> None:
        """Let go of what DeepSpeed holds; may be called twice."""
        if self._engine is not None:
            self._engine.destroy()
            self._engine = None
            nn.functional.linear = (
                self._linear
            )  # ZeRO 3 replaces it for the whole process, with other rounding

    def _whole(self, parameter: nn.Parameter) -> Tensor:
        """A copy of a parameter; under ZeRO 3 put together from the shards of all processes."""
        shard: Tensor | None = getattr(parameter, "ds_tensor", None)
        if shard is None:
            return parameter.detach().clone()
        # Not DeepSpeed's gathering: small parameters stay gathered there and would miss what was put in the shards.
        shards = [torch.empty_like(shard) for _ in range(self.launch.world_size)]
        torch.distributed.all_gather(shards, shard)
        whole: Any = parameter
        return torch.cat(shards)[: whole.ds_numel].view(whole.ds_shape)


def deepspeed_config(config: LoopConfig) -> dict[str, Any]:
    """DeepSpeed's settings for a stage. Batches come from the program, so their size is not DeepSpeed's affair."""
    bf16 = runtime.resolve_precision(config.precision) == "bf16"
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": config.accumulation,
        "gradient_clipping": config.optimizer.clip if config.zero_stage else 0.0,
        "zero_optimization": {"stage": config.zero_stage},
        "zero_allow_untested_optimizer": True,
        "torch_autocast": {"enabled": bf16, "dtype": "bfloat16"},
        "steps_per_print": NEVER,
    }


def enable_activation_checkpointing(module: nn.Module) -> None:
    """Recompute activations in the backward pass. Raises `UserError` if no part of the module can."""
    able = [
        part for part in module.modules() if callable(getattr(part, "enable_gradient_checkpointing", None))
    ]
    if not able:
        raise UserError(f"{type(module).__name__} has no activation checkpointing; set it to false")
    for part in able:
        cast(Any, part).enable_gradient_checkpointing()


def _joined_deepspeed() -> Any:
    """DeepSpeed, after this process has joined its group."""
    launch = runtime.launch()  # sets what DeepSpeed reads when it is imported
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(launch.local_rank)
        backend = "nccl"
    if not torch.distributed.is_initialized():
        if launch.world_size == 1:  # a store in memory: no port is opened
            store = cast(Any, torch.distributed).HashStore()
            torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
        else:
            torch.distributed.init_process_group(backend)
    # DeepSpeed would compile shared-memory collectives that only its inference uses.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False)
    return deepspeed


@contextmanager
def _quiet() -> Iterator[None]:
    """DeepSpeed warns at every save and load; nothing in it concerns the reader of a stage's log."""
    logger = logging.getLogger("DeepSpeed")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
