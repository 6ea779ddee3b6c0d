"""What an encoder is made of, apart from its sizes: one frozen spec for each kind of encoder."""

from dataclasses import dataclass

from bertjax.config import ModelConfig
from bertjax.errors import ConfigError


@dataclass(frozen=True)
class BlockSpec:
    """norm: where layer norms stand, "post" on the sum of residual and output (Vaswani et al. 2017), "pre" on what goes
    into attention and MLP, with one more after the last layer (Xiong et al. 2020). positions: "absolute" (learned) or
    "sinusoidal". windows: those of the layers of one period, which repeats over the depth; a token attends to tokens at
    most window // 2 places away, with None to all.

    Raises ConfigError for a value that is not implemented.
    """

    norm: str = "post"
    positions: str = "absolute"
    windows: tuple[int | None, ...] = (None,)

    def __post_init__(self):
        for name, known in (("norm", ("post", "pre")), ("positions", ("absolute", "sinusoidal"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} = {getattr(self, name)!r} is not implemented; use {' or '.join(known)}")
        if not self.windows or any(window is not None and window < 2 for window in self.windows):
            raise ConfigError(f"windows = {self.windows!r} must hold at least one of None or an integer from 2")


def bert(config: ModelConfig) -> BlockSpec:
    """The encoder of 2018."""
    return BlockSpec(positions=config.position_embedding_type)
