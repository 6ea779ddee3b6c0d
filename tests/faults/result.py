"""What a fault's trials showed, against the bar that they were held to."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Result:
    """``tried`` trials of the fault ``name``; ``failures`` has a line for each that missed ``bar``."""

    name: str
    bar: str
    tried: int = 0
    failures: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the bar was held; what was never tried holds nothing."""
        return self.tried > 0 and not self.failures
