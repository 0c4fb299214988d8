"""The queries of deploy/grafana and deploy/prometheus are valid and use the metrics and labels of /metrics."""

import json
import re
from pathlib import Path

import httpx
import promql_parser
import pytest
import yaml
from goldens import DATA
from prometheus_client.parser import text_string_to_metric_families
from serving import QUIET, serving
from test_metrics import CODES, error_codes

from embergem.config import EmbeddingEntry, Key
from embergem.options import LoadOptions
from embergem.server.api_keys import hash_key
from embergem.server.app import OPERATIONS
from embergem.server.build import build_state
from embergem.types import LANES

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "embergem.json").read_text())
RULES = yaml.safe_load((DEPLOY / "prometheus" / "embergem.rules.yml").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}

QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
ALERTS = [(rule["alert"], rule["expr"]) for group in RULES["groups"] for rule in group["rules"]]

TARGET_LABELS = {"job", "instance"}
"""Labels that Prometheus adds to each series."""

VALUES = {
    "code": {*error_codes(), *CODES},
    "lane": set(LANES),
    "path": {operation.path for operation in OPERATIONS},
}
"""Values that a query may compare a label with; a label that is not here has any."""


@pytest.fixture(scope="module")
def metrics():
    """The label names of each series of a server that has served and refused requests."""
    key = Key(name="search", sha256=hash_key("secret"))
    entry = EmbeddingEntry(name="bert", options=LoadOptions(model=str(DATA / "bert_mean")))
    state = build_state(QUIET, [entry], [key])
    with state.registry, serving(state) as url:
        state.registry.load("bert")
        with httpx.Client(base_url=url, headers={"authorization": "Bearer secret"}) as http:
            for body in (
                {"input": "a"},
                {"input": ["a", "b " * 500], "truncate_sequence": True},
                {"input": "b " * 500},
            ):
                http.post("/v1/embeddings", json=body)
            http.get("/nothing")
            page = http.get("/metrics").text
    found = {"up": TARGET_LABELS}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update({*sample.labels, *TARGET_LABELS})
    return found


def parse(query):
    """Parse a query, with values in place of Grafana's variables."""
    for name in re.findall(r"\$(\w+)", query):
        assert name == "__rate_interval" or name in VARIABLES, name
    return promql_parser.parse(query.replace("$__rate_interval", "5m"))


def nodes(query, kind):
    """Return the nodes of a kind in a query."""
    found = []
    promql_parser.walk(parse(query), lambda node: found.append(node) if isinstance(node, kind) else None)
    return found


@pytest.mark.parametrize(("title", "query"), [*QUERIES, *ALERTS])
def test_a_query_uses_metrics_and_labels_that_exist(title, query, metrics):
    selectors = nodes(query, promql_parser.VectorSelector)
    assert selectors, title
    labels = set()
    for selector in selectors:
        assert selector.name in metrics, f"{title}: there is no metric {selector.name}"
        labels |= metrics[selector.name]
        for matcher in selector.matchers.matchers:
            assert matcher.name in metrics[selector.name], f"{title}: {selector.name} has no label {matcher.name}"
            if matcher.op in (promql_parser.MatchOp.Equal, promql_parser.MatchOp.NotEqual) and matcher.name in VALUES:
                assert matcher.value in VALUES[matcher.name], f"{title}: {matcher.name} is never {matcher.value!r}"
    for aggregation in nodes(query, promql_parser.AggregateExpr):
        if aggregation.modifier is not None:
            assert set(aggregation.modifier.labels) <= labels, title


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_legend_names_labels_of_its_query(panel, metrics):
    for target in panel["targets"]:
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        aggregations = nodes(target["expr"], promql_parser.AggregateExpr)
        if aggregations:
            kept = set(aggregations[0].modifier.labels) if aggregations[0].modifier else set()
        else:
            kept = metrics[nodes(target["expr"], promql_parser.VectorSelector)[0].name]
        assert shown <= kept


def test_variables_take_their_values_from_labels_that_exist(metrics):
    for variable in VARIABLES.values():
        if variable["type"] == "query":
            selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
            (found,) = nodes(selector, promql_parser.VectorSelector)
            assert label in metrics[found.name]
            assert {matcher.name for matcher in found.matchers.matchers} <= metrics[found.name]


def test_panels_have_an_id_of_their_own_and_do_not_overlap():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_summaries_of_alerts_name_labels_of_their_queries():
    for group in RULES["groups"]:
        for rule in group["rules"]:
            shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
            aggregations = nodes(rule["expr"], promql_parser.AggregateExpr)
            assert shown <= (set(aggregations[0].modifier.labels) if aggregations else TARGET_LABELS), rule["alert"]
