"""From the name of a model in a request to a model and a task: `default:query`, `embed-gemma:document`.

Clients of OpenAI's API can't send a task, but all of them can send a name. An exact id or alias wins; what follows the
last colon counts only where it is a task of the model before it.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from embergem.engine import Engine
from embergem.errors import InvalidTask, UnknownModel
from embergem.protocol import TextRequest


def split(name: str, known: Container[str]) -> tuple[str, str | None]:
    """Return the model and, if the name has one, the task.

    >>> split("default:query", {"default"}), split("a:b", {"a:b", "a"}), split("nobody:query", {"default"})
    (('default', 'query'), ('a:b', None), ('nobody:query', None))
    """
    model, colon, task = name.rpartition(":")
    return (model, task) if colon and name not in known and model in known else (name, None)


@dataclass(frozen=True, slots=True)
class Prompted:
    """What is put around the texts of a request: a task's prompt, or a verbatim prefix, or nothing."""

    task: str | None = None
    prefix: str = ""

    def to(self, texts: list[str] | None) -> list[str] | None:
        """Texts with the prefix before them; a task's prompt is put around them by the engine."""
        return [self.prefix + text for text in texts] if texts and self.prefix else texts


def prompted(
    body: TextRequest, engine: Engine, task: str | None, defaults: Sequence[str | None], is_text: bool
) -> Prompted:
    """Decide what is put around the texts.

    The `task` of the name and that of the body must agree; without either the first of `defaults` counts that this
    model has, for texts: a default is meant for whatever comes, so it leaves alone what it cannot be applied to.

    Raises:
        UnknownModel: The task of the name is none of the model's.
        InvalidTask: Two tasks, a task beside a prompt, or either of them for token ids.
    """
    if task is not None and task not in engine.tasks:
        has = f"its tasks are: {', '.join(engine.tasks)}" if engine.tasks else "this model has no tasks"
        raise UnknownModel(f"the model name {body.model!r} ends in {task!r}, which is no task; {has}", param="model")
    if task is not None and body.task is not None and task != body.task:
        raise InvalidTask(f"the model's name asks for task {task!r} and the field for {body.task!r}", param="task")
    asked = body.task if body.task is not None else task
    if asked is not None and body.prompt is not None:
        raise InvalidTask(f"the task {asked!r} brings its own prompt; give it or `prompt`, not both", param="prompt")
    if not is_text and (asked is not None or body.prompt or body.title is not None):
        field = "prompt" if body.prompt else "title" if asked is None else "task" if task is None else "model"
        raise InvalidTask(
            f"token ids are embedded as they are: a task, title or prompt needs texts. {SENDS_IDS}", param=field
        )
    if asked is None and body.prompt is None and is_text:
        asked = next((default for default in defaults if default in engine.tasks), None)
    return Prompted(asked, body.prompt or "")


SENDS_IDS = (
    "A client that sends ids where you gave it texts tokenizes with OpenAI's vocabulary (tiktoken); LangChain's "
    "OpenAIEmbeddings sends texts with check_embedding_ctx_length=False"
)
