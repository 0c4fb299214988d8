"""What the files in deploy/ name exists: paths, metrics, settings, flags. `make check-deploy` checks their schemas."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from embergem.cli import app as cli
from embergem.config import read_config
from embergem.server.app import OPERATIONS
from embergem.server.metrics import LANE_GAUGES

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = sorted([*(DEPLOY / "kubernetes").glob("*.yaml"), DEPLOY / "compose.yaml"])


def documents(name):
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()))


def of_kind(name, kind):
    [found] = [document for document in documents(name) if document["kind"] == kind]
    return found


@pytest.fixture
def pod():
    return of_kind("embergem.yaml", "Deployment")["spec"]["template"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_say_that_they_were_not_run(path):
    assert "Not run" in path.read_text().split("\n\n")[0]


def test_probes_and_metrics_are_operations_of_the_server(pod):
    paths = {operation.path for operation in OPERATIONS}
    [container] = pod["spec"]["containers"]
    probes = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")]
    assert {*probes, pod["metadata"]["annotations"]["prometheus.io/path"]} <= paths
    [port] = container["ports"]
    assert str(port["containerPort"]) == pod["metadata"]["annotations"]["prometheus.io/port"]


def test_the_configuration_is_valid(tmp_path, pod):
    text = of_kind("embergem.yaml", "ConfigMap")["data"]["server.toml"]
    (tmp_path / "server.toml").write_text(text)
    [container] = pod["spec"]["containers"]
    given = {one["name"]: "4" for one in container["env"]}
    found = read_config(tmp_path / "server.toml", given, {})
    assert found.settings.threads == 4
    assert [model.name for model in found.models] == ["minilm"]
    assert found.settings.port == container["ports"][0]["containerPort"]
    assert tomllib.loads(text)["server"]["host"] == "0.0.0.0"
    assert pod["spec"]["terminationGracePeriodSeconds"] > found.settings.drain_timeout


def test_the_autoscaler_uses_a_metric_of_the_server():
    [rule] = documents("prometheus-adapter.yaml")[0]["rules"]["custom"]
    series = rule["seriesQuery"].partition("{")[0]
    assert series in LANE_GAUGES
    [metric] = of_kind("hpa.yaml", "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]


def test_selectors_select_the_pods(pod):
    labels = pod["metadata"]["labels"]
    for kind, field in (("Service", "selector"), ("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        selector = of_kind("embergem.yaml", kind)["spec"][field]
        assert selector.get("matchLabels", selector) == labels
    target = of_kind("hpa.yaml", "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"]
    assert target == of_kind("embergem.yaml", "Deployment")["metadata"]["name"]


def test_the_commands_have_known_options():
    job = of_kind("kuberay.yaml", "RayJob")["spec"]["entrypoint"]
    embed = typer.main.get_command(cli.app).commands["embed"]
    known = {name for parameter in embed.params for name in parameter.opts}
    assert set(re.findall(r"(?<=\s)--?[a-z-]+", job)) <= known
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["embergem"]
    serve = typer.main.get_command(cli.app).commands["serve"]
    options = {part for part in compose["command"] if part.startswith("-")}
    assert options <= {name for parameter in serve.params for name in parameter.opts}
    read_config(None, compose["environment"], {})


def test_ray_keeps_its_token_and_sends_no_statistics():
    spec = of_kind("kuberay.yaml", "RayJob")["spec"]["rayClusterSpec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        [container] = group["template"]["spec"]["containers"]
        variables = {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}
        assert variables["RAY_AUTH_MODE"] == "token"
        assert "secretKeyRef" in json.dumps(variables["RAY_AUTH_TOKEN"])
        assert variables["RAY_USAGE_STATS_ENABLED"] == "0"
