"""DeepSpeed under every training stage, on one CPU process as on many GPUs.

Differences between ZeRO stages end here and in `shards`: the loop sees float32 weights and a gradient norm.
The optimizers are those of PyTorch and transformers, and no operator of DeepSpeed's is compiled (its CPU Adam takes
154 s to build, its shared-memory collectives 32 s, neither is used in training). bf16 is DeepSpeed's autocast: weights,
gradient clipping and optimizer stay in float32, so exported weights and averages need no second copy.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf, isfinite
from typing import Any, cast

import torch
from torch import Tensor, nn

from components import runtime
from components.errors import UserError
from components.training import processes
from components.training.config import LoopConfig
from components.training.fp8 import Fp8
from components.training.optimizers import make_optimizer
from components.training.parts import blocks_of
from components.training.schedule import learning_rate
from components.training.shards import Shards

Accept = Callable[[float], bool]
NEVER = 10**12  # steps between DeepSpeed's own progress lines
UNCLIPPED = 0.999  # of the limit: a norm below it is certainly not clipped, whatever the rounding
ADDED = 1e-6  # to the norm, where PyTorch divides by it


class Engine:
    """A module below DeepSpeed. `module` is what a program calls."""

    def __init__(self, module: nn.Module, config: LoopConfig) -> None:
        """Raises `UserError` where there is nothing to train."""
        self.config = config
        self.launch = runtime.launch()
        self._raw = module
        trained = [(name, value) for name, value in module.named_parameters() if value.requires_grad]
        if not trained:
            raise UserError("no parameter of this stage is trainable; check `trainable`")
        self._trained = [value for _, value in trained]
        if config.activation_checkpointing:
            enable_activation_checkpointing(module)
        deepspeed = processes.join()
        self.readers, self.reader = readers(config)
        if config.sequence_parallel > 1:
            divide_sequence(module, config.sequence_parallel)
        self._fp8 = Fp8(module, checkpointing=config.activation_checkpointing) if config.fp8 else None
        self._compiled = compile_blocks(module) if config.compile == "blocks" else []
        self._linear = nn.functional.linear
        first = learning_rate(config.optimizer, 0, config.steps)
        optimizer = make_optimizer(config.optimizer, self._trained, lr=first)
        self._engine: Any = deepspeed.initialize(
            model=module, optimizer=optimizer, config=deepspeed_config(config), dist_init_required=False
        )[0]
        if config.zero_stage == 0:
            # DeepSpeed's walks the tree of modules for each step
            self._engine.zero_grad = self._drop_gradients
            if self.launch.world_size == 1:  # it would copy all gradients twice, for one process
                self._engine.enable_backward_allreduce = False
        self.shards = Shards(trained, optimizer, self._engine)
        kept = module.state_dict().keys()
        self._buffer_names = [name for name, _ in module.named_buffers() if name in kept]
        self._settled = self._copied_buffers()  # as the last step that was applied left them
        self.step_batches = config.accumulation * self.readers  # of one optimizer step

    @property
    def module(self) -> nn.Module:
        return cast(nn.Module, self._engine)

    @property
    def is_main(self) -> bool:
        return self.launch.rank == 0

    def backward(self, loss: Tensor) -> None:
        """Add this batch's gradients; losses of one optimizer step are averaged."""
        self._engine.backward(loss)

    def step(self, *, lr: float, last: bool, accept: Accept = isfinite) -> float:
        """End one backward pass; returns the gradient norm after the `last` of an optimizer step, else 0.

        `accept` is asked once, of the norm before clipping. Where it says no, the gradients are dropped, neither
        weights nor optimizer change, and buffers that forward passes have moved, such as running means, are put back;
        it must say the same on all processes.
        """
        accept = self._settling(accept)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        if not last:
            self._engine.step()
            return 0.0
        if self.config.zero_stage == 0:
            norm = self._clipped(accept)
            self._engine.step()  # of parameters without gradients nothing changes
            return norm
        asked: list[float] = []

        def ask(norm: float) -> bool:
            asked.append(norm)
            return accept(norm)

        with self._asking(ask):
            self._engine.step()
        if not asked:  # ZeRO itself found gradients that are not finite, and dropped them
            ask(inf)
        return asked[0]

    def _settling(self, accept: Accept) -> Accept:
        """The same question, after which buffers are as they would be without a step that is not accepted."""

        def asked(norm: float) -> bool:
            accepted = accept(norm)
            if accepted:
                self._settled = self._copied_buffers()
            else:
                self.load_buffers(self._settled)
            return accepted

        return asked

    @contextmanager
    def _asking(self, accept: Accept) -> Iterator[None]:
        """ZeRO takes the norm inside of its step, and drops the gradients where that is no valid norm."""
        optimizer = self._engine.optimizer
        name = "_get_norm_groups" if self.config.zero_stage == 3 else "scaled_global_norm"
        measure = getattr(optimizer, name)

        def measured() -> Any:
            found = measure()
            parts = torch.stack(found) if isinstance(found, list) else found.reshape(1)
            norm = inf if bool((parts < 0).any()) else float(torch.linalg.vector_norm(parts))
            if accept(norm):
                return found
            return list(-torch.ones_like(parts)) if isinstance(found, list) else -torch.ones_like(found)

        setattr(optimizer, name, measured)
        try:
            yield
        finally:
            delattr(optimizer, name)  # of the instance: the class has the method

    def _clipped(self, accept: Accept) -> float:
        """The gradient norm, after which the gradients are clipped, or dropped where it is not accepted."""
        trained = [parameter for parameter in self._trained if parameter.grad is not None]
        total = nn.utils.get_total_norm([cast(Tensor, parameter.grad) for parameter in trained])
        norm, clip = float(total), self.config.optimizer.clip
        if not accept(norm):
            self._drop_gradients()
        # PyTorch would multiply the others by 1, in one more pass over all
        elif norm > UNCLIPPED * clip - ADDED:
            nn.utils.clip_grads_with_norm_(trained, clip, total)
        return norm

    def _drop_gradients(self) -> None:
        for parameter in self._trained:
            parameter.grad = None

    def weights(self) -> dict[str, Tensor]:
        """Float32 weights by name, those elements that this process averages and saves (see `shards`)."""
        return self.shards.weights()

    def shapes(self) -> dict[str, list[int]]:
        """Shapes of the trained parameters."""
        return {
            name: list(getattr(parameter, "ds_shape", parameter.shape))
            for name, parameter in self.shards.named
        }

    def buffers(self) -> dict[str, Tensor]:
        """The module's persistent buffers, such as running means; the same on all processes."""
        return {name: self._raw.get_buffer(name) for name in self._buffer_names}

    def load_buffers(self, stored: Mapping[str, Tensor]) -> None:
        """Put back what `buffers` gave."""
        for name, value in self.buffers().items():
            value.copy_(stored[name])
        self._settled = self._copied_buffers()

    def _copied_buffers(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.buffers().items()}

    def mean(self, values: Sequence[float]) -> list[float]:
        """Mean of each value over the processes."""
        return processes.mean(values)

    def barrier(self) -> None:
        """Wait for all processes."""
        processes.barrier()

    def whole(self, elements: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors from the elements that each process has, in the layout of `weights`."""
        own = {shard.name: shard for shard in self.shards.own}
        shapes = self.shapes()
        found = {}
        for name, parameter in self.shards.named:
            shard, shape = own.get(name), shapes[name]
            if shard is not None and shard.count == shard.shape.numel():
                whole = elements[name].reshape(shape).clone()
            else:
                whole = torch.zeros(torch.Size(shape).numel(), device=parameter.device)
                if shard is not None:
                    whole[shard.start : shard.start + shard.count] = elements[name]
            found[name] = processes.add(whole).view(shape) if self.launch.world_size > 1 else whole
        return found

    @contextmanager
    def evaluating(self, weights: Mapping[str, Tensor]) -> Iterator[nn.Module]:
        """Within the block the module has these weights, laid out as `weights`, to look at and not to train."""
        kept = {name: value.clone() for name, value in self.weights().items()}
        self._show(weights)
        self._engine.eval()
        try:
            with torch.no_grad():
                yield self.module
        finally:
            self._engine.train()
            self._show(kept)

    def _show(self, weights: Mapping[str, Tensor]) -> None:
        """Compute with `weights` from here on. The optimizer has its own at ZeRO 1 and 2, which stay as they are."""
        if self.config.zero_stage == 3:
            self.shards.show(weights)
            return
        whole = self.whole(weights)
        for name, parameter in self.shards.named:
            parameter.data.copy_(whole[name])

    def release(self, weights: Mapping[str, Tensor]) -> None:
        """Put `weights` into the module and give it back whole, as plain parameters; the engine is gone after."""
        whole = self.whole(weights)
        frozen = [(name, value) for name, value in self._raw.named_parameters() if name not in whole]
        whole |= {name: self._gathered(parameter) for name, parameter in frozen}
        self.close()
        for name, parameter in self._raw.named_parameters():
            parameter.data = whole[name]
            parameter.grad = None

    def close(self) -> None:
        """Let go of what DeepSpeed holds; may be called twice."""
        if self._engine is not None:
            self._engine.destroy()
            self._engine = None
            if self._fp8 is not None:
                self._fp8.restore()
            for block in self._compiled:
                cast(Any, block)._compiled_call_impl = None  # noqa: SLF001  # there is no other way back
            # ZeRO 3 replaces it for the whole process, with other rounding
            nn.functional.linear = self._linear

    def _gathered(self, parameter: nn.Parameter) -> Tensor:
        """A copy of a frozen parameter; under ZeRO 3 put together from the parts of all processes."""
        part: Tensor | None = getattr(parameter, "ds_tensor", None)
        if part is None:
            return parameter.detach().clone()
        parts = [torch.empty_like(part) for _ in range(self.launch.world_size)]
        torch.distributed.all_gather(parts, part)
        whole: Any = parameter
        return torch.cat(parts)[: whole.ds_numel].view(whole.ds_shape)


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


def readers(config: LoopConfig) -> tuple[int, int]:
    """How many processes, or groups of them, read batches of their own, and which of these this process is in.

    Raises `UserError` where processes cannot be put into groups of `sequence_parallel`.
    """
    launch, size = runtime.launch(), config.sequence_parallel
    if launch.world_size % size:
        raise UserError(
            f"sequence_parallel {size} does not divide {launch.world_size} processes; choose a divisor, or start"
            f" a multiple of {size}"
        )
    return launch.world_size // size, launch.rank // size


def divide_sequence(module: nn.Module, size: int) -> None:
    """Share the tokens of clips among each `size` processes. Raises `UserError` where the model cannot."""
    able = [part for part in module.modules() if callable(getattr(part, "divide_among", None))]
    if not able:
        raise UserError(f"{type(module).__name__} has no tokens to divide; set sequence_parallel to 1")
    launch = runtime.launch()
    starts = range(0, launch.world_size, size)
    groups = [torch.distributed.new_group(list(range(start, start + size))) for start in starts]
    try:
        for part in able:
            cast(Any, part).divide_among(groups[launch.rank // size])
    except ValueError as error:
        raise UserError(str(error)) from None


def compile_blocks(module: nn.Module) -> list[nn.Module]:
    """Compile each block at its first pass. Raises `UserError` where there are none."""
    blocks = blocks_of(module)
    if not blocks:
        raise UserError(f"{type(module).__name__} has no blocks to compile; set compile to none")
    for block in blocks:
        block.compile()
    return blocks


def enable_activation_checkpointing(module: nn.Module) -> None:
    """Recompute activations in the backward pass. Raises `UserError` if no part of the module can."""
    able = [
        part for part in module.modules() if callable(getattr(part, "enable_gradient_checkpointing", None))
    ]
    if not able:
        raise UserError(f"{type(module).__name__} has no activation checkpointing; set it to false")
    for part in able:
        cast(Any, part).enable_gradient_checkpointing()
