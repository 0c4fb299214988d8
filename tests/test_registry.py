"""Several models: loading, unloading and exchanging them under requests, with engines that only remember."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from embergem.engine import Request
from embergem.errors import EngineClosed, ModelFailed, ModelLoading, UnknownModel, UnsupportedOption
from embergem.registry import Registry, Spec


class Engine:
    """Stands for a loaded model of 100 bytes."""

    weight_bytes = 100

    def __init__(self, name):
        self.name = name
        self.closed = None

    def close(self, *, drain=False):
        self.closed = "drained" if drain else "stopped"


class Maker:
    """Makes engines, one after the other, when its gate is open; keeps them in `made`."""

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
    """The clock of the registry, which only the test advances."""
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


def test_models_load_beside_each_other_and_lazy_ones_on_use(registry, makers):
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


def test_who_does_not_want_to_wait_is_told_when_to_come_back(registry, makers, clock):
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


def test_a_load_that_failed_says_why_and_can_be_tried_again(registry, makers):
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
    """As PyO3's: no Exception."""


def test_a_panic_while_loading_is_a_load_that_failed(registry, makers):
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


def test_a_load_that_got_no_thread_can_be_tried_again(registry, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            registry.get("a")
    assert registry.status("a") == "unloaded"
    registry.load("a")
    assert registry.status("a") == "loaded"


def test_an_engine_in_use_is_closed_when_it_is_let_go(registry, makers):
    with registry.use("a") as engine:
        unloading = threading.Thread(target=registry.unload, args=("a",))
        unloading.start()
        while registry.status("a") != "unloaded":
            unloading.join(0.001)
        assert engine.closed is None
        assert registry.get("a").name == "a1"  # who comes now has a new one
    unloading.join()
    assert engine.closed == "drained"
    assert registry.status("a") == "loaded"


def test_unloading_leaves_the_default_and_twice_is_harmless(registry):
    registry.get("a")
    registry.unload("a")
    registry.unload("a")
    assert registry.status("a") == "unloaded"
    assert registry.default == "a"
    assert registry.get("default").name == "a1"


def test_reload_exchanges_and_keeps_the_old_one_when_it_fails(registry, makers):
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


def test_a_removed_model_is_forgotten(registry):
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


def test_idle_models_are_unloaded_after_their_time(registry, clock):
    engine = registry.get("b")
    registry.get("a")
    assert registry.sweep() == 60.0
    clock.now = 59.0
    with registry.use("b"):
        clock.now = 200.0
        assert registry.sweep() is None  # it is in use
    assert registry.sweep() is None
    assert engine.closed == "drained"
    assert statuses(registry) == ["loaded", "unloaded", "unloaded"]
    assert registry.get("b").name == "b1"


def test_the_least_recently_used_make_room(registry, clock):
    first = registry.get("a")
    clock.now = 1.0
    second = registry.get("b")
    clock.now = 2.0
    registry.get("a")
    clock.now = 3.0
    registry.get("c")
    registry.close()  # waits for the loader, which makes room after it has learnt the size
    assert second.closed == "drained"
    assert first.closed == "stopped"


def test_room_is_made_again_when_what_was_in_use_is_let_go(registry, clock):
    registry.get("a")
    with registry.use("b"):
        clock.now = 1.0
        with registry.use("a"):
            clock.now = 2.0
            registry.get("c")
            registry.wait()
            assert statuses(registry) == ["loaded"] * 3  # 300 bytes of 250
    registry.sweep()
    assert statuses(registry) == ["loaded", "unloaded", "loaded"]
    registry.sweep()
    assert statuses(registry) == ["loaded", "unloaded", "loaded"]


def test_a_reload_makes_room_for_both(registry, clock):
    first = registry.get("a")
    clock.now = 1.0
    registry.get("b")
    registry.reload("b")  # two of it at once: 300 bytes of 250
    assert first.closed == "drained"
    assert statuses(registry) == ["unloaded", "loaded", "unloaded"]


@pytest.mark.parametrize("away", ["sweep", "evict"])
def test_a_reload_loses_no_engine_of_a_model_that_goes_meanwhile(registry, makers, clock, away):
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
    with pytest.raises(ModelLoading):  # and does not begin a second load
        registry.get("b", wait=False)
    makers["b"].gate.set()
    reloading.join()
    registry.wait()
    current = registry.get("b")
    assert [engine.closed for engine in makers["b"].made if engine is not current] == ["drained"]
    assert len(makers["b"].made) == 2


def test_closing_waits_for_no_load_unless_told(registry, makers):
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


def test_requests_never_fail_while_models_come_and_go(tiny):
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
