"""Every task by every interface: the vectors are, to the bit, those of the published prompt around the text.

The Python interfaces run in this process or behind a real server; the Rust SDK answers through its example `pipe`.
"""

import asyncio
import json

import httpx
import msgspec
import numpy as np
import pytest
from goldens import DATA
from serving import QUIET, configured
from typer.testing import CliRunner

from embergem import Embedder, EmbeddingModelBuilder, EmbeddingRequest, Runner, Task, Which
from embergem.cli.app import app as commands
from embergem.config import read_config

MODELS = ("gemma3_text", "embedding_gemma2")
TEXTS = ["What is graphene?", "def f(x):\n    return x", "", "Ünïcödé, 東京"]
PROMPTS = {
    "query": "task: search result | query: ",
    "document": "title: none | text: ",
    "question_answering": "task: question answering | query: ",
    "fact_verification": "task: fact checking | query: ",
    "classification": "task: classification | query: ",
    "clustering": "task: clustering | query: ",
    "semantic_similarity": "task: sentence similarity | query: ",
    "code_retrieval": "task: code retrieval | query: ",
}
"""The prompts that the model card publishes."""


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    """Directory of a model with the tasks."""
    return DATA / request.param


@pytest.fixture(scope="module")
def loaded(model):
    """The model, loaded."""
    with Embedder(model) as embedder:
        yield embedder


@pytest.fixture(scope="module")
def expected(loaded):
    """The bits of the texts with each prompt written out, without a task."""
    return {task: bits(loaded.embed([prompt + text for text in TEXTS])) for task, prompt in PROMPTS.items()}


@pytest.fixture(scope="module")
def served(model, tmp_path_factory):
    """Address of a server whose selector configuration has the model once without a task, and once for each task."""
    selectors = {"plain": {"Embedding": {"model_id": str(model)}}}
    selectors |= {f"for {task}": {"Embedding": {"model_id": str(model)}, "task": task} for task in PROMPTS}
    file = tmp_path_factory.mktemp("selectors") / "models.json"
    file.write_text(json.dumps(selectors))
    every = msgspec.structs.replace(QUIET, cache_bytes=0)  # each request is computed
    with configured(*read_config(file, {}, {}).models, settings=every) as (url, registry):
        registry.wait()
        yield url


@pytest.fixture(scope="module")
def runner(model):
    return Runner(which=Which.Embedding(str(model)))


def bits(vectors):
    return np.asarray(vectors, dtype=np.float32).view(np.uint32).tolist()


def post(url, **body):
    answer = httpx.post(f"{url}/v1/embeddings", json={"input": TEXTS} | body, timeout=60).raise_for_status().json()
    return [row["embedding"] for row in answer["data"]]


def command(model, task):
    result = CliRunner().invoke(commands, ["embed", "-m", str(model), "--task", task, "--format", "json", *TEXTS])
    assert result.exit_code == 0, result.output
    return [json.loads(line)["embedding"] for line in result.stdout.splitlines()]


def requested(task):
    return EmbeddingRequest.builder().add_prompts(TEXTS).with_task(task).build()


def by_builder(model, task):
    async def embed():
        async with await EmbeddingModelBuilder(str(model)).with_task(task).build() as built:
            return await built.generate_embeddings(EmbeddingRequest(TEXTS))

    return asyncio.run(embed())


def test_there_are_eight_tasks_with_different_vectors(expected):
    assert set(PROMPTS) == set(Task)
    assert len({json.dumps(vectors) for vectors in expected.values()}) == len(PROMPTS) == 8


@pytest.mark.parametrize("task", PROMPTS)
def test_python_and_the_server(task, model, loaded, served, runner, expected):
    found = {
        "HTTP field": post(served, model="plain", task=task),
        "HTTP model name": post(served, model=f"plain:{task}"),
        "selector configuration": post(served, model=f"for {task}"),
        "Embedder": loaded.embed(TEXTS, task=task),
        "Runner": runner.send_embedding_request(requested(task)),
        "builder": by_builder(model, task),
        "command line": command(model, task),
    }
    different = [way for way, vectors in found.items() if bits(vectors) != expected[task]]
    assert not different


def test_rust(model, pipe, expected):
    answers = pipe(model, *({"texts": TEXTS, "task": task} for task in PROMPTS))
    different = [
        task for task, answer in zip(PROMPTS, answers, strict=True) if bits(answer["vectors"]) != expected[task]
    ]
    assert not different


@pytest.mark.parametrize("task", PROMPTS)
def test_the_prompt_is_the_published_string(task, served):
    def ids(text, **body):
        answer = httpx.post(f"{served}/v1/tokenize", json={"model": "plain", "input": text} | body, timeout=60)
        return answer.raise_for_status().json()["data"][0]["ids"]

    assert ids(TEXTS[0], task=task) == ids(PROMPTS[task] + TEXTS[0])
