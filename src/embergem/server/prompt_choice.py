"""Choosing the prompt of a request: from the model name, the fields of the body, and the default tasks.

Clients of OpenAI's API cannot send a task, but they can send a model name, so a name may end in a task:
`default:query`. An exact id or alias takes precedence over that reading.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass

from embergem.engine import Engine
from embergem.errors import InvalidTask, UnknownModel
from embergem.protocol import TextRequest
from embergem.server.decode import DecodedRequest

TIKTOKEN_HINT = (
    "A client that sends token ids where you gave it texts tokenizes with OpenAI's vocabulary (tiktoken). LangChain's "
    "OpenAIEmbeddings sends texts with check_embedding_ctx_length=False."
)


def split_task(name: str, known: Container[str]) -> tuple[str, str | None]:
    """Split a model name into the model and the task; the task is None if the name has none.

    >>> split_task("default:query", {"default"}), split_task("a:b", {"a:b", "a"}), split_task("x:query", {"default"})
    (('default', 'query'), ('a:b', None), ('x:query', None))
    """
    model, colon, task = name.rpartition(":")
    return (model, task) if colon and name not in known and model in known else (name, None)


@dataclass(frozen=True, slots=True)
class PromptChoice:
    """The prompt around each text: the prompt of a task, or a verbatim prefix, or nothing."""

    task: str | None = None
    prefix: str = ""

    def apply(self, texts: list[str] | None) -> list[str] | None:
        """Put the prefix before each text. The engine applies the prompt of a task."""
        return [self.prefix + text for text in texts] if texts and self.prefix else texts


def choose_prompt(
    request: DecodedRequest[TextRequest], engine: Engine, task: str | None, default_tasks: Iterable[str | None]
) -> PromptChoice:
    """Choose the prompt of a request; `task` is the task in its model name.

    Without a task or prompt in the request, texts get the first of `default_tasks` that the model has: a default task
    applies to whatever model a request names, so models without the task ignore it.

    Raises:
        UnknownModel: The model does not have the task in the model name.
        InvalidTask: The request has two tasks, a task and a prompt, or one of these for token ids.
    """
    body = request.body
    if task is not None and task not in engine.tasks:
        tasks = f"The tasks of the model are: {', '.join(engine.tasks)}." if engine.tasks else "The model has no tasks."
        raise UnknownModel(
            f"The model name {request.model!r} ends in the unknown task {task!r}. {tasks}", param="model"
        )
    if task is not None and body.task is not None and task != body.task:
        raise InvalidTask(
            f"The model name asks for the task {task!r} and the field `task` for {body.task!r}. Give one of the two.",
            param="task",
        )
    chosen = body.task if body.task is not None else task
    if chosen is not None and body.prompt is not None:
        raise InvalidTask(
            f"The task {chosen!r} has its own prompt. Give either the task or `prompt`, not both.", param="prompt"
        )
    if request.texts is None and (chosen is not None or body.prompt or body.title is not None):
        field = "prompt" if body.prompt else "title" if chosen is None else "task" if task is None else "model"
        raise InvalidTask(
            f"A task, title or prompt needs texts, and `input` has token ids, which are embedded as they are. "
            f"{TIKTOKEN_HINT}",
            param=field,
        )
    if chosen is None and body.prompt is None and request.texts is not None:
        for default in default_tasks:
            if default in engine.tasks:
                chosen = default
                break
    return PromptChoice(chosen, body.prompt or "")
