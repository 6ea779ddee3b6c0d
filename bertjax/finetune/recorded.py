"""The identity of a run that an earlier version may have begun."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Identity keys of earlier versions that make no difference where the data and the model are the same, as they must be:
# a run that began with "refuse" has no text that would be truncated.
_NO_LONGER = ("data.too_long",)


def identity_when_begun(recorded: Mapping[str, Any] | None, identity: dict[str, Any]) -> dict[str, Any]:
    """``identity`` (dotted name -> JSON value) as the version that began the run in ``recorded`` would have it.

    recorded: config.json of a trial, None where there is none. A key that was not there then is left out where it is
    None, which stands for what was done before there was such a key.
    """
    if recorded is None:
        return identity
    old = recorded["identity"]
    new = {name: value for name, value in identity.items() if name in old or value is not None}
    return new | {name: old[name] for name in _NO_LONGER if name in old}
