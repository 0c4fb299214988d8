"""MTEB's encoder protocol: the prompts of tasks, and two tasks made here that `mteb.evaluate` scores."""

import shutil
import warnings
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from mteb import TaskMetadata
from mteb.models import EncoderProtocol
from mteb.types import PromptType

from embergem import Embedder, TruncationWarning
from embergem.errors import UnknownOption, UnsupportedOption
from embergem.integrations.mteb import EmbergemEncoder

TEXTS = ["Graphene is a layer of carbon.", "An apple is a fruit.", "Copper conducts heat."]
MISSING = [name for name in ("torch", "sentence_transformers") if not find_spec(name)]


def metadata(kind, **more):
    return TaskMetadata(
        name=f"Embergem{kind}",
        dataset={"path": "none/none", "revision": "1"},
        description="A task made by a test.",
        type=kind,
        eval_langs=["eng-Latn"],
        **{"main_score": "cosine_spearman"} | more,
    )


def encode(encoder, texts=TEXTS, kind="STS", prompt_type=None, **more):
    batches = [{"text": texts[:2]}, {"text": texts[2:]}]
    task = SimpleNamespace(name=f"Embergem{kind}", type=kind)
    return encoder.encode(
        batches, task_metadata=task, hf_split="test", hf_subset="default", prompt_type=prompt_type, **more
    )


def test_it_has_the_protocol(embedder):
    encoder = EmbergemEncoder(embedder)
    assert isinstance(encoder, EncoderProtocol)
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.revision) == ("gemma3_text", embedder.fingerprint)
    assert (meta.embed_dim, meta.max_tokens, meta.similarity_fn_name.value) == (96, 128, "cosine")


@pytest.mark.parametrize(
    ("kind", "prompt_type", "task"),
    [
        ("Retrieval", PromptType.query, "query"),
        ("Retrieval", PromptType.document, "document"),
        ("Reranking", PromptType.document, "document"),
        ("Classification", None, "classification"),
        ("MultilabelClassification", None, "classification"),
        ("Clustering", None, "clustering"),
        ("STS", None, "semantic_similarity"),
        ("PairClassification", None, "semantic_similarity"),
        ("Summarization", None, "semantic_similarity"),
        ("BitextMining", None, "semantic_similarity"),
        ("Regression", None, None),
    ],
)
def test_the_prompt_is_that_of_the_task(embedder, kind, prompt_type, task):
    found = encode(EmbergemEncoder(embedder), kind=kind, prompt_type=prompt_type, batch_size=2)
    assert np.array_equal(found, embedder.embed(TEXTS, task=task))


def test_the_names_in_the_checkpoint_come_first(query_only, tmp_path):
    directory = shutil.copytree(query_only, tmp_path / "named")
    prompts = '{"prompts": {"query": "query: ", "Clustering": "cluster: ", "EmbergemSTS": "sts: "}}'
    (directory / "config_sentence_transformers.json").write_text(prompts)
    encoder = EmbergemEncoder(str(directory))
    plain = encoder.model.embed
    for kind, prefix in (("Clustering", "cluster: "), ("STS", "sts: "), ("Classification", "")):
        assert np.array_equal(encode(encoder, kind=kind), plain([prefix + text for text in TEXTS]))


def test_options(tiny, embedder):
    encoder = EmbergemEncoder(str(tiny), dimensions=96, dtype="int16", threads=1)
    assert encoder.model.dtype == "int16"
    long = ["word " * 500, *TEXTS]
    with pytest.warns(TruncationWarning):
        assert encode(encoder, long).shape == (4, 96)
    with pytest.raises(UnsupportedOption, match="threads: this model is loaded already"):
        EmbergemEncoder(embedder, threads=1)
    with pytest.raises(UnknownOption, match="Did you mean 'threads'"):
        EmbergemEncoder(str(tiny), treads=1)
    with pytest.raises(UnsupportedOption, match="precision='int8'"):
        encode(encoder, precision="int8")
    with pytest.raises(UnsupportedOption, match="EmbergemSTS gives image and no text"):
        encoder.encode(
            [{"image": []}], task_metadata=metadata("STS"), hf_split="test", hf_subset="default", prompt_type=None
        )


@pytest.mark.skipif(bool(MISSING), reason=f"mteb.evaluate needs {' and '.join(MISSING)}: pip install 'embergem[mteb]'")
def test_mteb_scores_it(minilm, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # torch sets it otherwise
    import mteb
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval, AbsTaskSTS

    class Similarity(AbsTaskSTS):
        metadata = metadata("STS")
        min_score, max_score = 0, 5

        def load_data(self, **_):
            rows = {
                "sentence1": ["A man plays a guitar.", "A dog runs.", "The sky is blue.", "Fry the onions."],
                "sentence2": ["A man plays an instrument.", "A dog is running.", "Taxes rose.", "Onions are fried."],
                "score": [4.0, 5.0, 0.0, 4.5],
            }
            self.dataset, self.data_loaded = {"test": Dataset.from_dict(rows)}, True

    class Search(AbsTaskRetrieval):
        metadata = metadata("Retrieval", main_score="ndcg_at_10")

        def load_data(self, **_):
            split = {
                "corpus": Dataset.from_dict({"id": ["0", "1", "2"], "title": [""] * 3, "text": TEXTS}),
                "queries": Dataset.from_dict({"id": ["q"], "text": ["Which metal is a good conductor?"]}),
                "relevant_docs": {"q": {"2": 1}},
                "top_ranked": None,
            }
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    with warnings.catch_warnings(), Embedder(minilm) as embedder:
        warnings.simplefilter("ignore")  # those of mteb's own libraries
        result = mteb.evaluate(EmbergemEncoder(embedder), [Similarity(), Search()], cache=None, show_progress_bar=False)
    scores = {found.task_name: found.get_score() for found in result.task_results}
    assert scores["EmbergemSTS"] > 0.7
    assert scores["EmbergemRetrieval"] == 1.0
