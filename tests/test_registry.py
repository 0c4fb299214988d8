"""Several models: loading, unloading and replacing them during requests, with fake engines."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from embergem.engine import Request
from embergem.errors import EngineClosed, ModelFailed, ModelLoading, UnknownModel, UnsupportedOption
from embergem.registry import Registry, Spec


class Engine:
    """A fake of a loaded model of 100 bytes that records how it was closed."""

    weight_bytes = 100
    failure = None

    def __init__(self, name):
        self.name = name
        self.closed = None

    def close(self, *, drain=False):
        self.closed = "drained" if drain else "stopped"


class Maker:
    """Makes engines one after the other, while its gate is open, and keeps them in `made`."""

    def __init__(self, name):
        self.name = name
        self.made = []
        self.fail = None
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()

    def __call__(self):
        self.begun.set()
        self.gate.wait()
        if self.fail:
            raise self.fail
        self.made.append(Engine(f"{self.name}{len(self.made)}"))
        return self.made[-1]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """A clock for the registry that only the test advances."""
    clock = Clock()
    monkeypatch.setattr("embergem.registry.registry.monotonic", clock)
    return clock


@pytest.fixture
def makers():
    return {name: Maker(name) for name in "abc"}


@pytest.fixture
def registry(makers, clock):
    with Registry(max_bytes=250) as made:
        made.add("a", Spec(load=makers["a"], aliases=("first", "one")))
        made.add("b", Spec(load=makers["b"], keep_alive=60.0))
        made.add("c", Spec(load=makers["c"], lazy=True))
        yield made
        for maker in makers.values():
            maker.gate.set()


def statuses(registry):
    return [registry.status(name) for name in registry.names()]


def test_models_load_in_parallel_and_lazy_models_at_the_first_use(registry, makers):
    for name in "ab":
        makers[name].gate.clear()
    registry.start()
    for name in "ab":
        assert makers[name].begun.wait(10)
    assert statuses(registry) == ["loading", "loading", "unloaded"]
    assert not registry.ready()
    makers["b"].gate.set()
    assert registry.get("b").name == "b0"
    assert not registry.ready()
    makers["a"].gate.set()
    registry.wait()
    assert registry.ready()
    assert statuses(registry) == ["loaded", "loaded", "unloaded"]


def test_names_aliases_and_the_default(registry):
    assert registry.names() == ["a", "b", "c"]
    assert registry.aliases() == {"first": "a", "one": "a"}
    assert registry.default == "a"
    assert registry.get("default") is registry.get("one") is registry.get("a")
    registry.default = "b"
    assert registry.get("default").name == "b0"
    registry.default = "first"
    assert registry.default == "a"
    with pytest.raises(UnknownModel, match="Known names: default, a, b, c, first, one"):
        registry.get("nonsense")
    with pytest.raises(UnknownModel):
        registry.default = "nonsense"
    for taken in ("a", "one", "default"):
        with pytest.raises(UnsupportedOption, match=f"'{taken}' is taken"):
            registry.add(taken, Spec(load=Maker("x")))


def test_without_waiting_a_loading_model_gives_retry_after(registry, makers, clock):
    makers["a"].gate.clear()
    with pytest.raises(ModelLoading) as loading:
        registry.get("a", wait=False)
    assert loading.value.retry_after == 10.0
    clock.now = 4.0
    with pytest.raises(ModelLoading) as loading:
        registry.get("a", wait=False)
    assert loading.value.retry_after == 6.0
    makers["a"].gate.set()
    registry.wait()
    assert registry.get("a", wait=False).name == "a0"
    assert len(makers["a"].made) == 1


def test_a_failed_load_has_a_reason_and_can_be_repeated(registry, makers):
    makers["a"].fail = OSError("the disk is gone")
    registry.start()
    registry.wait()
    assert registry.status("a") == "failed"
    assert "the disk is gone" in registry.reason("a")
    assert not registry.ready()
    with pytest.raises(ModelFailed, match="the disk is gone"):
        registry.get("a")
    with pytest.raises(ModelFailed):
        registry.load("a")
    makers["a"].fail = None
    registry.load("a")
    assert registry.status("a") == "loaded"
    assert registry.reason("a") is None


class PanicException(BaseException):
    """Like PyO3's exception for a panic, not a subclass of Exception."""


def test_a_panic_while_loading_is_a_failed_load(registry, makers):
    makers["c"].fail = PanicException("index out of bounds")
    makers["c"].gate.clear()
    failed = []

    def wait():
        try:
            registry.get("c")
        except ModelFailed as error:
            failed.append(error.message)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    assert makers["c"].begun.wait(10)
    makers["c"].gate.set()
    waiting.join(10)
    assert failed == ["The model 'c' could not be loaded: PanicException: index out of bounds"]
    assert registry.status("c") == "failed"
    with pytest.raises(ModelFailed, match="index out of bounds"):
        registry.reload("c")
    makers["c"].fail = None
    registry.load("c")
    assert registry.status("c") == "loaded"


def test_a_load_without_a_thread_can_be_repeated(registry, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            registry.get("a")
    assert registry.status("a") == "unloaded"
    registry.load("a")
    assert registry.status("a") == "loaded"


def test_an_engine_in_use_is_closed_after_its_last_use(registry, makers):
    with registry.use("a") as engine:
        unloading = threading.Thread(target=registry.unload, args=("a",))
        unloading.start()
        while registry.status("a") != "unloaded":
            unloading.join(0.001)
        assert engine.closed is None
        assert registry.get("a").name == "a1"  # a new request gets a new engine
    unloading.join()
    assert engine.closed == "drained"
    assert registry.status("a") == "loaded"


def test_unloading_keeps_the_default_and_may_be_repeated(registry):
    registry.get("a")
    registry.unload("a")
    registry.unload("a")
    assert registry.status("a") == "unloaded"
    assert registry.default == "a"
    assert registry.get("default").name == "a1"


def test_reload_replaces_the_engine_unless_the_load_fails(registry, makers):
    old = registry.get("a")
    registry.reload("a")
    assert registry.get("a").name == "a1"
    assert old.closed == "drained"
    makers["a"].fail = ValueError("half written")
    with pytest.raises(ModelFailed, match="half written"):
        registry.reload("a")
    assert registry.get("a").name == "a1"
    assert registry.status("a") == "loaded"
    makers["a"].fail = None
    registry.unload("a")
    registry.reload("a")
    assert registry.get("a").name == "a2"


def test_a_removed_model_is_unknown(registry):
    engine = registry.get("a")
    registry.remove("one")
    assert engine.closed == "drained"
    assert registry.names() == ["b", "c"]
    assert registry.aliases() == {}
    assert registry.default == "b"
    with pytest.raises(UnknownModel):
        registry.get("first")
    registry.remove("b")
    registry.remove("c")
    assert registry.default is None
    with pytest.raises(UnknownModel, match="Known names: none"):
        registry.get("default")


def test_idle_models_are_unloaded_after_keep_alive(registry, clock):
    engine = registry.get("b")
    registry.get("a")
    assert registry.sweep() == 60.0
    clock.now = 59.0
    with registry.use("b"):
        clock.now = 200.0
        assert registry.sweep() is None  # the engine is in use
    assert registry.sweep() is None
    assert engine.closed == "drained"
    assert statuses(registry) == ["loaded", "unloaded", "unloaded"]
    assert registry.get("b").name == "b1"


def test_the_least_recently_used_model_is_unloaded_for_memory(registry, clock):
    first = registry.get("a")
    clock.now = 1.0
    second = registry.get("b")
    clock.now = 2.0
    registry.get("a")
    clock.now = 3.0
    registry.get("c")
    registry.close()  # waits for the loader, which unloads others once it knows the size
    assert second.closed == "drained"
    assert first.closed == "stopped"


def test_a_sweep_frees_memory_that_was_in_use_before(registry, clock):
    registry.get("a")
    with registry.use("b"):
        clock.now = 1.0
        with registry.use("a"):
            clock.now = 2.0
            registry.get("c")
            registry.wait()
            assert statuses(registry) == ["loaded"] * 3  # 300 bytes with a budget of 250
    registry.sweep()
    assert statuses(registry) == ["loaded", "unloaded", "loaded"]
    registry.sweep()
    assert statuses(registry) == ["loaded", "unloaded", "loaded"]


def test_a_reload_frees_memory_for_both_engines(registry, clock):
    first = registry.get("a")
    clock.now = 1.0
    registry.get("b")
    registry.reload("b")  # both engines of the reload need memory: 300 bytes with a budget of 250
    assert first.closed == "drained"
    assert statuses(registry) == ["unloaded", "loaded", "unloaded"]


@pytest.mark.parametrize("away", ["sweep", "evict"])
def test_a_reload_closes_every_engine_of_a_model_that_is_unloaded_meanwhile(registry, makers, clock, away):
    registry.get("b")
    makers["b"].gate.clear()
    makers["b"].begun.clear()
    reloading = threading.Thread(target=registry.reload, args=("b",))
    reloading.start()
    assert makers["b"].begun.wait(10)
    clock.now = 100.0
    if away == "sweep":
        registry.sweep()
    else:
        registry.get("a")
        registry.get("c")
        while registry.status("b") == "loaded":
            assert reloading.is_alive()
    assert registry.status("b") == "loading"
    with pytest.raises(ModelLoading):  # the request does not begin a second load
        registry.get("b", wait=False)
    makers["b"].gate.set()
    reloading.join()
    registry.wait()
    current = registry.get("b")
    assert [engine.closed for engine in makers["b"].made if engine is not current] == ["drained"]
    assert len(makers["b"].made) == 2


def test_closing_waits_for_loads_only_on_request(registry, makers):
    for name in "ab":
        makers[name].gate.clear()
    registry.start()
    failed = []

    def call(action):
        try:
            action()
        except EngineClosed as error:
            failed.append(error)

    assert makers["b"].begun.wait(10)
    waiting = [
        threading.Thread(target=call, args=(action,))
        for action in (registry.wait, lambda: registry.get("a"), lambda: registry.reload("b"))
    ]
    for thread in waiting:
        thread.start()
    assert registry.close(wait=False) is False
    for thread in waiting:
        thread.join()
    assert len(failed) == 2
    for name in "ab":
        makers[name].gate.set()
    assert registry.close() is True
    assert [makers[name].made[0].closed for name in "ab"] == ["stopped", "stopped"]


def test_requests_succeed_while_models_are_loaded_and_unloaded(tiny):
    with Registry() as registry, ThreadPoolExecutor(4) as pool:
        registry.add("tiny", Spec.of(str(tiny)))
        expected = registry.get("tiny").embed(Request(texts=["a"])).vectors

        def ask(_):
            with registry.use("tiny") as engine:
                future = engine.submit(Request(texts=["a"]))
            return bool((future.result().vectors == expected).all())

        answers = [pool.submit(ask, number) for number in range(60)]
        for _ in range(3):
            registry.reload("tiny")
            registry.unload("tiny")
        assert all(answer.result() for answer in answers)
