"""A forked process loads models of its own. Calls on a model of its parent raise `ForkedProcess` instead of waiting."""

import subprocess
import sys

LOADED = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of Python, for a fork of a process with threads
from embergem import Embedder

embedder = Embedder(sys.argv[1])
vectors = embedder.embed("a")
"""

INHERITED = (
    LOADED
    + """
from embergem.errors import ForkedProcess

child = os.fork()
if child == 0:
    refused = 0
    for call in (lambda: embedder.embed("a"), lambda: next(embedder.embed_stream(["a"]))):
        try:
            call()
        except ForkedProcess as error:
            assert "make a new Embedder" in str(error) and isinstance(error, RuntimeError), error
            refused += 1
    embedder.close()
    os._exit(refused)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), embedder.embed("a").shape)
"""
)

LOAD_IN_CHILD = (
    LOADED
    + """
import gc, threading

child = os.fork()
if child == 0:
    del embedder
    gc.collect()  # the threads of the parent's engine are not in this process, and must not be waited for
    own = Embedder(sys.argv[1])
    assert own.embed("a").tobytes() == vectors.tobytes()
    if os.path.isdir("/proc/self/task") and len(os.sched_getaffinity(0)) > 1:
        names = {open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")}
        assert "embergem-1" in names, names  # a thread of a new compute pool
    grandchild = os.fork()
    if grandchild == 0:
        long = Embedder(sys.argv[1]).embed(["word " * 20] * 64)  # in batches on all threads of the pool
        os._exit(len(long))
    _, status = os.waitpid(grandchild, 0)
    assert os.waitstatus_to_exitcode(status) == 64
    del own
    gc.collect()
    for thread in threading.enumerate():  # those of the dropped engine end
        if thread.name.endswith(("interactive", "bulk")):
            thread.join()
    os._exit(0)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), embedder.embed("a").shape)
"""
)

POOL = (
    LOADED
    + """
import multiprocessing

def load():
    global own
    own = Embedder(sys.argv[1])

def embed(text):
    return own.embed(text).tobytes()

with multiprocessing.get_context("fork").Pool(2, initializer=load) as pool:
    print(pool.map(embed, ["a"] * 8) == [vectors.tobytes()] * 8)
"""
)

BEFORE = """
import os, sys
from embergem import Embedder
child = os.fork()
shape = Embedder(sys.argv[1]).embed("a").shape
if child == 0:
    os._exit(shape[1])
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), shape)
"""


def run(code, tiny):
    command = [sys.executable, "-c", code, str(tiny)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_a_model_cannot_be_used_after_a_fork(tiny):
    assert run(INHERITED, tiny) == "2 (1, 96)"


def test_a_forked_process_loads_a_model_of_its_own(tiny):
    assert run(LOAD_IN_CHILD, tiny) == "0 (1, 96)"


def test_a_fork_pool_loads_a_model_in_each_worker(tiny):
    assert run(POOL, tiny) == "True"


def test_models_loaded_after_the_fork_work_in_both_processes(tiny):
    assert run(BEFORE, tiny) == "96 (1, 96)"
