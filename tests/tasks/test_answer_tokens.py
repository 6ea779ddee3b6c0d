"""Answers in words, and in characters where a script has no spaces."""

from __future__ import annotations

import pytest

from bertjax.tasks import squad_metrics
from bertjax.tasks.examples import Answer, QuestionExample
from bertjax.tasks.squad_metrics import answer_tokenizer, character_tokens, counted_in_characters, word_tokens

CHINESE = "授時曆由元朝的郭守敬等人編制，於1281年頒行。"
JAPANESE = "「東京タワー」は1958年12月23日に竣工した。高さは333メートル、NHKの送信に使われた。"
THAI = "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย"
ENGLISH = "The Shoushi calendar (授時曆) of the Yuan dynasty (元朝) was made by Guo Shoujing and others in 1281."
KOREAN = "서울특별시는 대한민국의 수도이다."


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("元朝", ["元", "朝"]),
        ("《授時曆》。", ["授", "時", "曆"]),
        ("1958年12月23日", ["1958", "年", "12", "月", "23", "日"]),
        ("１９５８年", ["1958", "年"]),
        ("東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("ﾄｳｷｮｳ", ["ト", "ウ", "キ", "ョ", "ウ"]),
        ("か\u3099ん", ["が", "ん"]),
        ("A座", ["a", "座"]),
        ("NHK World、東", ["nhk", "world", "東"]),
        ("人々・・・", ["人", "々"]),
        ("ไทย", ["ไ", "ท", "ย"]),
        ("เมืองที่", ["เ", "มื", "อ", "ง", "ที่"]),
        ("", []),
        ("。", []),
    ],
)
def test_characters_and_the_words_between_them(answer, words):
    assert character_tokens(answer) == words


@pytest.mark.parametrize(
    ("context", "words"),
    [
        (CHINESE, character_tokens),
        (JAPANESE, character_tokens),
        (THAI, character_tokens),
        ("Google、Microsoft和Apple都是美国的科技公司，总部位于美国西海岸。", character_tokens),
        (ENGLISH, word_tokens),
        (KOREAN, word_tokens),
        ("plain", word_tokens),
        ("1281 – ...", word_tokens),
    ],
)
def test_the_context_decides_what_is_counted(context, words):
    assert answer_tokenizer(context) is words


def test_contexts_counted_in_characters():
    assert counted_in_characters([CHINESE, ENGLISH, JAPANESE, KOREAN, CHINESE]) == 3


def question(context, *answers):
    return QuestionExample("x.json:1", "1", "?", context, tuple(Answer(text, 0) for text in answers))


@pytest.mark.parametrize(
    ("context", "prediction", "gold", "exact", "f1"),
    [
        (CHINESE, "元朝的郭守敬", "郭守敬", 0.0, 2 * 3 / (6 + 3)),  # by words it would be 0
        (CHINESE, "「郭守敬」", "郭守敬", 1.0, 1.0),
        (JAPANESE, "1958年12月", "1958年12月23日", 0.0, 2 * 4 / (4 + 6)),
        (JAPANESE, "３３３メートル", "333メートル", 1.0, 1.0),
        (THAI, "ประเทศไทย", "ไทย", 0.0, 2 * 3 / (9 + 3)),
        (ENGLISH, "元朝的郭守敬", "郭守敬", 0.0, 0.0),  # as the official program has it
        (ENGLISH, "the Guo Shoujing", "Guo Shoujing", 1.0, 1.0),
    ],
)
def test_scores_by_hand(context, prediction, gold, exact, f1):
    found = squad_metrics.question_scores({"1": prediction}, [question(context, gold)])
    assert [float(one[0]) for one in found] == [exact, pytest.approx(f1)]
    # The rules of 2.0 count alike.
    both = [question(context, gold), QuestionExample("x.json:2", "2", "?", context, ())]
    found = squad_metrics.question_scores({"1": prediction, "2": ""}, both)
    assert [float(one[0]) for one in found] == [exact, pytest.approx(f1)] and found[1][1] == 1.0
