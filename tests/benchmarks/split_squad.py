"""The articles of a SQuAD file in two: the first N to train on, the rest to evaluate on.

python tests/benchmarks/split_squad.py squad-dev-v1.1.json.zip 40 train.json dev.json
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path


def main(source: str, count: str, train: str, rest: str) -> None:
    if source.endswith(".zip"):
        with zipfile.ZipFile(source) as archive:
            tree = json.loads(archive.read(archive.namelist()[0]))
    else:
        tree = json.loads(Path(source).read_text(encoding="utf-8"))
    articles = tree["data"]
    for path, part in ((train, articles[: int(count)]), (rest, articles[int(count) :])):
        Path(path).write_text(json.dumps(tree | {"data": part}), encoding="utf-8")
        questions = sum(len(paragraph["qas"]) for article in part for paragraph in article["paragraphs"])
        print(f"{path}: {len(part)} articles, {questions:,} questions")


if __name__ == "__main__":
    main(*sys.argv[1:])
