import pytest

from bertjax.data.stream.pipeline import evaluation_batches
from bertjax.data.stream.settings import ExampleSettings
from bertjax.errors import DataError
from bertjax.objectives import pair_cautions
from bertjax.objectives.masked_batches import masked_batches
from bertjax.objectives.pair_cautions import pair_facts
from bertjax.objectives.registry import find_objective
from bertjax.prepare import main
from bertjax.text.vocabulary import train_tokenizer

MLM = find_objective("mlm").maker
OBJECTIVE = find_objective("mlm_nsp")


def phase_pairs(corpus, phases):
    (settings,) = phases.values()
    return pair_cautions.phase_pairs(find_objective(settings.maker.name), corpus, phases)


def check_pairs(corpus, facts):
    pair_cautions.check_pairs(OBJECTIVE, corpus, facts)


def pair_lines(corpus, facts):
    return pair_cautions.pair_lines(OBJECTIVE, corpus, facts)


NSP = find_objective("mlm_nsp").maker

ROWS = ExampleSettings(NSP)


def lines_of(corpus, settings=ROWS):
    return pair_lines(corpus, phase_pairs(corpus, {"phase1": settings}))


def refused(corpus, settings=ROWS) -> str:
    with pytest.raises(DataError) as error:
        check_pairs(corpus, phase_pairs(corpus, {"phase1": settings}))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_documents_of_one_sentence_have_no_pairs(synthetic):
    corpus = synthetic.corpus([[9]] * 300)
    assert "no document of the corpus has a second sentence" in refused(corpus)
    assert "--config.data.objective=mlm" in refused(corpus)
    (line,) = lines_of(corpus)
    assert line.startswith("phase1: next-sentence prediction means nothing: no document")
    # The way out: masked LM alone has no pairs, and nothing to say.
    alone = ExampleSettings(MLM)
    check_pairs(corpus, phase_pairs(corpus, {"phase1": alone}))
    assert not lines_of(corpus, alone)


def test_a_single_pair_of_sentences_is_found_wherever_it_is(synthetic):
    documents = [[9]] * 300
    documents[123] = [9, 9]
    corpus = synthetic.corpus(documents)
    blocks = ExampleSettings(NSP, block_tokens=90)  # about ten documents a block
    facts = pair_facts(corpus, blocks)
    assert facts.has_next == 1
    check_pairs(corpus, {"phase1": facts})
    assert not pair_facts(corpus, ROWS).without_next < 0.99
    assert "can only be random" in lines_of(corpus)[0]


def test_one_long_sentence_a_document_is_enough(synthetic):
    """As of DNA: it is split, and its pieces follow each other."""
    corpus = synthetic.corpus([[3000]] * 50)
    check_pairs(corpus, phase_pairs(corpus, {"phase1": ROWS}))
    assert not lines_of(corpus)
    assert "no document" in refused(corpus, ExampleSettings(NSP, order=1))


def test_sentences_that_fill_a_pair_alone_are_named_as_the_reason(synthetic):
    corpus = synthetic.corpus([[5, 5, 5]] * 100)
    tiny = ExampleSettings(NSP, sequence_length=8, max_predictions=2, short_seq_prob=0.0)
    assert "each sentence fills a pair alone" in refused(corpus, tiny)
    check_pairs(corpus, phase_pairs(corpus, {"phase1": ExampleSettings(NSP, sequence_length=16, max_predictions=3)}))


def test_short_targets_may_leave_few_next_sentences(synthetic):
    corpus = synthetic.corpus([[60] * 20] * 100)
    assert not lines_of(corpus)
    assert "can only be random" in lines_of(corpus, ExampleSettings(NSP, short_seq_prob=1.0))[0]


def test_pairs_are_counted_not_documents(synthetic):
    book, titles = [[20] * 5000], [[6]] * 100
    assert not lines_of(synthetic.corpus(book + titles))  # 99 % of the documents hold one sentence, 10 % of the pairs
    short = [[12, 15, 9]] * 60 + titles
    (line,) = lines_of(synthetic.corpus(short))
    facts = pair_facts(synthetic.corpus(short), ROWS)
    assert f"{facts.without_next:.0%} of the next-sentence pairs" in line and facts.without_next > 0.5
    assert f"right in {(1 + facts.without_next) / 2:.0%}" in line


def test_facts_are_those_of_the_epoch(synthetic):
    corpus = synthetic.random_corpus(3, 200, longest=300)
    facts = pair_facts(corpus, ROWS, seed=7)
    assert facts.whole_epoch
    batches = list(evaluation_batches(corpus, synthetic.tokenizer_of(corpus), ROWS, 8, 10**9, seed=7))
    examples = [example for batch in batches for example in synthetic.examples_of(batch)]
    real = [a + b for a, b, label in examples if not label]
    assert (facts.pairs, facts.real) == (len(examples), len(real))
    tokens = [token for a, b, label in examples for token in (a if label else a + b)]
    assert facts.shown == len(tokens) == len(set(tokens))
    assert facts.tokens == corpus.num_tokens
    assert f"{len(tokens) / corpus.num_tokens:.1%} of the tokens are shown" in pair_cautions.facts_line(
        OBJECTIVE, facts
    )


def test_a_large_corpus_is_looked_at_in_its_first_block(synthetic):
    corpus = synthetic.random_corpus(3, 200)
    facts = pair_facts(corpus, ExampleSettings(NSP, block_tokens=3000))
    assert not facts.whole_epoch and facts.tokens < corpus.num_tokens / 4
    assert f"in the first {facts.tokens:,} tokens" in pair_cautions.facts_line(OBJECTIVE, facts)


def test_batches_of_texts_are_refused_too():
    texts = [f"Sentence number {i} speaks of a river" for i in range(40)]
    tokenizer = train_tokenizer("wordpiece", texts, 120, lowercase=True)
    with pytest.raises(DataError, match="no document of the corpus has a second sentence"):
        masked_batches(texts, tokenizer, objective="mlm_nsp")
    assert sum(batch["masked_lm_weights"].sum() for batch in masked_batches(texts, tokenizer, objective="mlm")) > 40


def test_prepare_warns_and_makes_the_corpus(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("\n\n".join(f"Sentence number {i} speaks of a river" for i in range(60)))
    assert main(["--input=a.txt", "--output=out", "--vocab_size=100"]) == 0
    printed = capsys.readouterr()
    assert "warning: data.objective=mlm_nsp: next-sentence prediction means nothing: no document" in printed.err
    assert "pairs an epoch, 0.0% of them real next ones; 100.0% of the tokens are shown" in printed.out


def test_prepare_counts_pairs_of_ordinary_text_without_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = "\n\n".join(" ".join(f"This is sentence {i} of {n}." for i in range(40)) for n in range(30))
    (tmp_path / "a.txt").write_text(text)
    assert main(["--input=a.txt", "--output=out", "--vocab_size=100"]) == 0
    printed = capsys.readouterr()
    assert "next-sentence" not in printed.err
    assert "in rows of 128 tokens: " in printed.out and "real next ones" in printed.out
