"""What the tokenizers on the library ``tokenizers`` share: encoding, errors in one line, the template around texts."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bertjax.errors import ConfigError
from bertjax.text.interface import Tokenizer, printable
from bertjax.text.offsets import EncodedText, encoded_text
from bertjax.text.word_boundaries import word_starts


class LibraryTokenizer(Tokenizer):
    """Encodes and decodes with ``_library``, a ``tokenizers.Tokenizer``; ``_origin`` names its file in errors."""

    _library: Any
    _origin: str

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        encode = self._library.encode_batch_fast
        return [found.ids for found in guarded(self._origin, encode, list(texts), add_special_tokens=False)]

    def encode_with_offsets(self, texts: Sequence[str]) -> list[EncodedText]:
        encodings = self._encode_slowly(texts)
        return [encoded_text(text, found.ids, found.offsets) for text, found in zip(texts, encodings, strict=True)]

    def encode_with_word_starts(self, texts: Sequence[str]) -> tuple[list[list[int]], np.ndarray]:
        encodings = self._encode_slowly(texts)
        return [found.ids for found in encodings], word_starts(texts, encodings)

    def decode(self, ids: Sequence[int]) -> str:
        return guarded(self._origin, self._library.decode, [int(i) for i in ids], skip_special_tokens=False)

    def _encode_slowly(self, texts: Sequence[str]) -> Any:
        return guarded(self._origin, self._library.encode_batch, list(texts), add_special_tokens=False)


def guarded(origin: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """``call(*args, **options)``, its errors as ConfigError. The library raises bare Exception, and BaseException for a
    panic."""
    try:
        return call(*args, **options)
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, ConfigError):
        raise
    except BaseException as error:
        raise ConfigError(f"{origin} is not a valid tokenizer: {printable(error)}") from None


def template(tokenizer: Tokenizer, given: Any = None) -> dict[str, Any]:
    """The post-processor of a ``tokenizer.json`` that frames texts as in training: ``[CLS] A [SEP]`` and ``[CLS] A
    [SEP] B [SEP]``, with the token types 0 and 1. ``given``: the post-processor of the file that is read; of its steps
    only those that trim offsets stay."""
    names = tokenizer.special_tokens()
    special = lambda role, kind: {"SpecialToken": {"id": names[role], "type_id": kind}}
    text = lambda name, kind: {"Sequence": {"id": name, "type_id": kind}}
    single = [special("cls", 0), text("A", 0), special("sep", 0)]
    ids = {names["cls"]: tokenizer.cls_id, names["sep"]: tokenizer.sep_id}
    ours = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B", 1), special("sep", 1)],
        "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in ids.items()},
    }
    trimming = list(_trimming_steps(given))
    return {"type": "Sequence", "processors": [*trimming, ours]} if trimming else ours


def _trimming_steps(given: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(given, dict):
        return
    if given.get("type") == "ByteLevel":
        yield given
    elif given.get("type") == "RobertaProcessing":
        prefix, trim = given.get("add_prefix_space", True), given.get("trim_offsets", True)
        yield {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": trim, "use_regex": True}
    elif isinstance(given.get("processors"), list):
        for step in given["processors"]:
            yield from _trimming_steps(step)
