"""Check the files in deploy/ against the schemas of Kubernetes, KubeRay and Compose: make check-deploy.

The schemas of Kubernetes come from the package kubernetes-validate, those of KubeRay and Compose from their Go modules
(needs go). tests/docs/test_deploy.py checks what the schemas cannot know, such as paths and settings of the server.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.33"
KUBERAY = ("github.com/ray-project/kuberay/ray-operator", "v1.5.0", "config/crd/bases/ray.io_rayjobs.yaml")
COMPOSE = ("github.com/compose-spec/compose-go/v2", "v2.16.2", "schema/compose-spec.json")
VALUES = ("prometheus-adapter.yaml",)
"""Files in the folder of Kubernetes that are values of a Helm chart, which has no schema."""


def main() -> int:
    """Check every document, print one line for each, and return 1 if one is invalid."""
    faults = 0
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if path.name in VALUES:
                continue
            faults += report(
                f"{path.name}: {document['kind']} {document['metadata']['name']}", lambda d=document: check(d)
            )
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    schema = json.loads(module_file(*COMPOSE))
    faults += report("compose.yaml", lambda: jsonschema.validate(compose, schema))
    return 1 if faults else 0


def check(document: dict[str, Any]) -> None:
    """Raise an error if a document does not have the schema of its kind."""
    if document["apiVersion"].startswith("ray.io/"):
        definition = yaml.safe_load(module_file(*KUBERAY))
        [version] = [one for one in definition["spec"]["versions"] if document["apiVersion"] == f"ray.io/{one['name']}"]
        jsonschema.validate(document, closed(version["schema"]["openAPIV3Schema"]))
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that refuses unknown fields, as the API server does with strict validation."""
    found = {key: closed(value) if isinstance(value, dict) else value for key, value in schema.items()}
    if isinstance(properties := schema.get("properties"), dict):
        found["properties"] = {name: closed(one) for name, one in properties.items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            found.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    return found


def report(name: str, validate: Any) -> int:
    """Print whether a document is valid; return the number of faults."""
    try:
        validate()
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        place = ".".join(map(str, getattr(error, "path", ())))
        print(f"{name}: {place}: {str(getattr(error, 'message', error)).splitlines()[0]}", file=sys.stderr)
        return 1
    print(f"{name}: valid")
    return 0


def module_file(module: str, version: str, file: str) -> str:
    """Return the text of a file of a Go module, which `go` downloads and verifies."""
    command = ["go", "mod", "download", "-json", f"{module}@{version}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return (Path(json.loads(answer)["Dir"]) / file).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
