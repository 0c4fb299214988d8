"""`embergem doctor`: each check reports a fault and gives advice."""

import json
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest
from typer.testing import CliRunner

from embergem.cli.app import app
from embergem.diagnostics.doctor import checks
from embergem.diagnostics.doctor.report import Cpu, Memory
from embergem.diagnostics.doctor.system import cpu, memory, quota, system
from embergem.hub import model_cache

CPUINFO = """processor\t: {number}
model name\t: Test CPU
physical id\t: 0
core id\t\t: {core}
flags\t\t: fpu avx avx2 fma avx512f avx512_vnni

"""


@pytest.fixture(autouse=True)
def own_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def processor(**changes):
    base = Cpu("Test CPU", 8, 4, 8, True, True, False, True, False, ("portable", "avx2"))
    return msgspec.structs.replace(base, **changes)


def test_facts_about_the_processor_are_read_from_cpuinfo(tmp_path):
    (tmp_path / "cpuinfo").write_text("".join(CPUINFO.format(number=n, core=n // 2) for n in range(4)))
    found = cpu(tmp_path)
    assert (found.brand, found.logical_cores, found.physical_cores) == ("Test CPU", 4, 2)
    assert found.avx
    assert found.avx512
    assert found.vnni
    assert "portable" in found.instruction_sets


def test_a_control_group_limits_memory_and_time(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:  8000000 kB\nMemAvailable:  4000000 kB\n")
    assert memory(tmp_path, tmp_path) == Memory(8000000 * 1024, 4000000 * 1024)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert memory(tmp_path, tmp_path) == Memory(1000000, 600000)
    assert quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert quota(tmp_path) == 1.5


def test_a_machine_without_proc_has_a_report(tmp_path):
    found = system(tmp_path, tmp_path)
    assert found.memory.total_bytes == 0
    assert checks.check_memory(found.memory).status == "warn"


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({}, "ok", "avx2"),
        ({"instruction_sets": ("portable",)}, "error", "did not agree"),
        ({"instruction_sets": ("portable",), "avx2": False}, "warn", "many times slower"),
    ],
)
def test_instruction_sets(changes, status, word):
    found = checks.check_instruction_sets(processor(**changes))
    assert found.status == status
    assert word in str(found)


def test_more_threads_than_the_control_group_has_time_for():
    assert checks.check_threads(processor(), None).status == "ok"
    found = checks.check_threads(processor(), 2.5)
    assert found.status == "warn"
    assert "--threads 2" in found.suggestion


def test_little_memory():
    assert checks.check_memory(Memory(8 << 30, 4 << 30)).status == "ok"
    found = checks.check_memory(Memory(8 << 30, 1 << 20))
    assert found.status == "warn"
    assert "1.0 MB of 8.6 GB" in found.message


def test_an_unwritable_cache_is_an_error(tmp_path):
    assert checks.check_cache(tmp_path / "new").status != "error"
    (tmp_path / "file").write_text("")
    found = checks.check_cache(tmp_path / "file")
    assert found.status == "error"
    assert "EMBERGEM_CACHE" in found.suggestion


class TestHub:
    @pytest.fixture
    def hub(self, monkeypatch):
        """A hub that responds to HEAD with `status`."""

        class Handler(BaseHTTPRequestHandler):
            status = 200

            def do_HEAD(self):
                self.send_response(Handler.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            monkeypatch.delenv("HF_HUB_OFFLINE")
            monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
            yield Handler
            server.shutdown()
            thread.join()

    @pytest.mark.parametrize(("status", "found"), [(200, "ok"), (404, "ok"), (502, "warn")])
    def test_the_status_of_the_response(self, hub, status, found):
        hub.status = status
        assert checks.check_hub().status == found

    def test_a_hub_that_refuses_connections(self, monkeypatch):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        found = checks.check_hub(timeout=2)
        assert found.status == "warn"
        assert "HF_ENDPOINT" in found.suggestion

    def test_offline_mode(self):
        assert "HF_HUB_OFFLINE" in checks.check_hub().message


class TestModels:
    def test_a_good_model(self, tiny):
        found = checks.check_model(str(tiny))
        assert {check.status for check in found} == {"ok"}
        assert found[0].name == "gemma3_text loaded"
        assert "96 dimensions, 128 tokens" in found[0].message
        assert "MiB of packed weights" in found[0].message
        assert found[1].name == "gemma3_text memory"
        assert "packed weights (mapped from the cache)" in found[1].message
        assert "anonymous" in found[1].message

    def test_a_model_that_cannot_be_loaded(self, tiny, tmp_path):
        broken = shutil.copytree(tiny, tmp_path / "broken")
        (broken / "model.safetensors").write_bytes(b"")
        [found] = checks.check_model(str(broken))
        assert found.status == "error"
        assert "empty" in found.message

    def test_a_model_that_is_not_in_the_cache(self):
        [found] = checks.check_model("minilm")
        assert found.status == "warn"
        assert "models pull" in found.suggestion

    def test_an_unknown_model(self):
        [found] = checks.check_model("no-such-model")
        assert found.status == "error"

    def test_a_damaged_model_in_the_cache(self, tiny, tmp_path):
        with model_cache.locked("acme/tiny") as scratch:
            fetched = shutil.copytree(tiny, scratch / "hub")
            cached = model_cache.store(fetched, model="acme/tiny", source="hub", revision=None)
        assert {check.status for check in checks.check_model("acme/tiny")} == {"ok"}
        (cached.path / "tokenizer.json").unlink()
        [found] = checks.check_model("acme/tiny")
        assert found.status == "error"
        assert "tokenizer.json is missing" in found.message


def test_the_fields_of_the_json_report(tiny):
    result = CliRunner().invoke(app, ["doctor", str(tiny), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert {"os", "kernel", "cpu", "memory", "devices", "build", "hf_cache_path"} <= set(report["system"])
    assert {"brand", "logical_cores", "physical_cores", "avx", "avx2", "avx512", "fma"} <= set(report["system"]["cpu"])
    assert {"total_bytes", "available_bytes"} == set(report["system"]["memory"])
    assert all({"name", "status", "message"} <= set(check) <= {"name", "status", "message", "suggestion"}
               for check in report["checks"])  # fmt: skip
    assert {"instruction_sets", "threads", "memory", "cache", "hub"} <= {check["name"] for check in report["checks"]}


def test_an_error_sets_the_exit_code_and_is_printed_with_its_advice(tiny, tmp_path):
    broken = shutil.copytree(tiny, tmp_path / "broken")
    chain = json.loads((broken / "modules.json").read_text())
    (broken / "modules.json").write_text(json.dumps([part for part in chain if not part["type"].endswith("Dense")]))
    result = CliRunner().invoke(app, ["doctor", str(broken)])
    assert result.exit_code == 1
    assert "dense_layers" in result.output
    assert "--allow-missing-dense" in result.output
