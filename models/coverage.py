"""What became of every tensor when the weights of one model were put into another."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CoverageReport:
    """Names of tensors: of the new model in the first three fields, of the source in the last two."""

    loaded: tuple[str, ...]
    new: tuple[str, ...]  # drawn at random or set to one
    zero_initialised: tuple[str, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)  # name -> why
    unexplained: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # partly loaded tensors, and what changes the output

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def require_explained(self) -> None:
        """Raise `ValueError` if a tensor of the source has no place and no reason to be left out."""
        if self.unexplained:
            raise ValueError(
                f"{len(self.unexplained)} tensors of the source fit nowhere: {', '.join(self.unexplained[:8])}"
                f"{' ...' if len(self.unexplained) > 8 else ''}; check that the layout and the configuration are the"
                " ones the weights were saved with"
            )

    def text(self) -> str:
        """A table: one line per kind of tensor, the layers of the network counted together."""
        reasons = {f"{name} ({why})" for name, why in self.dropped.items()}
        rows = {
            "loaded": self.loaded,
            "new": self.new,
            "zero": self.zero_initialised,
            "dropped": reasons,
            "unexplained": self.unexplained,
        }
        lines = [f"{kind:<12} {len(names):>5} tensors" for kind, names in rows.items()]
        for kind in ("new", "zero", "dropped", "unexplained"):
            lines += [f"  {kind:<12} {line}" for line in _collapsed(rows[kind])]
        return "\n".join([*lines, *(f"  note         {note}" for note in self.notes)])


def _collapsed(names: Iterable[str]) -> list[str]:
    """Names with the layer number left open, and how many there are of each."""
    counts = Counter(re.sub(r"\.\d+\.", ".*.", name, count=1) for name in names)
    return [name if count == 1 else f"{name} x {count}" for name, count in sorted(counts.items())]
