"""Helm's own engine for tests/helm/main.rs: reads what to do on standard input, answers on standard output, in JSON.

It judges nothing but what needs a library that Rust does not have: the chart is linted and rendered, YAML is read
(a key that stands twice is an error), PromQL is parsed. One process does all of it, since loading takes longer than
rendering.
"""

import json
import os
import pathlib
import re
import runpy
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import helm_python
import promql_parser
import yaml
from helm_python import _native

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "outrigger"


class Strict(yaml.CSafeLoader):
    """Reads YAML as Kubernetes does, except that a key must not stand twice."""


def mapping(loader, node):
    seen = set()
    for key, _ in node.value:
        name = loader.construct_object(key)
        if name in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{name!r} stands twice", key.start_mark)
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def answer_case(chart, path, case):
    """Schema, lint and rendering of one set of values."""
    values, kube = json.dumps(case["values"]), case["kube"]
    report = helm_python.lint(path, case["values"], strict=True, kube_version=kube)
    # An icon is for catalogues; everything else counts.
    told = [m["error"] for m in report["messages"] if "icon is recommended" not in m["error"]] + report["errors"]
    options = {"name": "demo", "namespace": "shop", "kube_version": kube, "strict": True}
    options["api_versions"] = ["monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1"]
    try:
        files = json.loads(_native.call_string("helm_render", chart._raw(), values, json.dumps(options)))
    except helm_python.HelmError as error:
        return {"error": str(error), "lint": told}
    files = {name: text for name, text in sorted(files.items()) if text.strip()}
    documents = []
    for name, text in files.items():
        if not name.endswith("NOTES.txt"):
            try:
                found = [document for document in yaml.load_all(text, Strict) if document is not None]
            except yaml.YAMLError as error:
                return {"error": f"{name}: {error}", "lint": told}
            documents += [{"file": name, "document": document} for document in found]
    return {"files": files, "documents": documents, "lint": told}


def selectors(expression):
    """Each metric that an expression asks for, with its matchers."""
    if isinstance(expression, promql_parser.VectorSelector):
        matchers = [[m.name, str(m.op).split(".")[-1], m.value] for m in expression.matchers.matchers]
        yield {"metric": expression.name, "matchers": matchers}
    for field in ("lhs", "rhs", "expr", "vector_selector"):
        if hasattr(expression, field):
            yield from selectors(getattr(expression, field))
    for argument in getattr(expression, "args", []):
        yield from selectors(argument)


def expressions():
    """Every PromQL expression that the chart ships: where it stands, and its text."""
    for path in sorted((CHART / "rules").glob("*.yaml")):
        for group in yaml.load(path.read_text(), Strict)["groups"]:
            for rule in group["rules"]:
                yield rule["alert"], rule["expr"]
    for path in sorted((CHART / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        for variable in board["templating"]["list"]:
            found = re.fullmatch(r"label_values\((.*), \w+\)", variable.get("definition", ""))
            if found:
                yield f"{path.name}: ${variable['name']}", found[1]
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.name}: {panel['title']}", target["expr"]


def queries():
    for where, text in expressions():
        parsed = promql_parser.parse(text.replace("$__rate_interval", "5m"))
        yield {"where": where, "text": text, "selectors": list(selectors(parsed))}


def main():
    order = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        # A chart that depends on ours holds a copy of it, as `helm dependency build` would make one.
        parent = pathlib.Path(folder) / "shop"
        shutil.copytree(ROOT / "tests" / "helm" / "shop", parent)
        shutil.copytree(CHART, parent / "charts" / "outrigger")
        charts = {path.name: (helm_python.Chart.load(path), path) for path in (CHART, parent)}
        # Charts that are pasted together from documents.
        for name, files in order["charts"].items():
            path = pathlib.Path(folder) / name
            shutil.copytree(CHART, path / "charts" / "outrigger")
            for file, text in files.items():
                (path / file).parent.mkdir(exist_ok=True)
                (path / file).write_text(text)
            charts[name] = (helm_python.Chart.load(path), path)
        # The engine works without Python's lock, and is most of the time.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            answers = pool.map(lambda case: answer_case(*charts[case["chart"]], case), order["cases"])
            cases = {case["name"]: answer for case, answer in zip(order["cases"], answers)}
    schema = json.loads((CHART / "values.schema.json").read_text())
    answer = {
        "cases": cases,
        "queries": list(queries()),
        "readme": runpy.run_path(str(ROOT / "helm" / "readme.py"))["readme"](),
        "values": yaml.load((CHART / "values.yaml").read_text(), Strict),
        "schema": schema,
        "rules": [yaml.load(path.read_text(), Strict) for path in sorted((CHART / "rules").glob("*.yaml"))],
    }
    # At once: piece by piece takes seconds.
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
