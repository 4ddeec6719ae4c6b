#!/usr/bin/env python3
"""Writes the table of values in outrigger/README.md from the comments of outrigger/values.yaml.

    tests/helm/.venv/bin/python helm/readme.py

The comment above a key is its meaning; a map whose keys have comments is told by them. What has none is an error,
so that no value goes without a word. A test compares the file with what this would write.
"""

import json
import pathlib
import re
import sys

import yaml

CHART = pathlib.Path(__file__).parent / "outrigger"
BEGIN, END = "<!-- made by helm/readme.py from values.yaml -->\n", "<!-- end -->\n"
KEY = re.compile(r"^( *)([A-Za-z_]+):(.*)$")


def comments(text):
    """Each key's path and the comment right above it."""
    told, stack, comment = {}, [], []
    for line in text.splitlines():
        found = KEY.match(line)
        if line.strip().startswith("#"):
            comment.append(line.strip().lstrip("#").strip())
        elif found:
            depth = len(found[1]) // 2
            stack[depth:] = [found[2]]
            told[".".join(stack)] = " ".join(comment)
            comment = []
        else:
            comment = []
    return told


def rows(values, told, path=""):
    """A row for each value that has a comment; below it nothing is told."""
    for key, value in values.items():
        name = f"{path}{key}"
        if told.get(name):
            yield name, value, told[name]
        elif isinstance(value, dict) and value:
            yield from rows(value, told, f"{name}.")
        else:
            sys.exit(f"values.yaml: {name} has no comment")


def table():
    """The table, as Markdown."""
    text = (CHART / "values.yaml").read_text()
    lines = ["| value | default | meaning |", "| --- | --- | --- |"]
    told = comments(text)
    for name, value, meaning in rows(yaml.safe_load(text), told):
        # What is told key by key has its defaults there.
        below = [key for key in told if key.startswith(f"{name}.") and told[key]]
        if below and isinstance(value, dict):
            lines.append(f"| `{name}` | | {meaning} |")
            lines += [f"| `{key}` | `{json.dumps(inner)}` | {why} |" for key, inner, why in rows(value, told, f"{name}.")]
        else:
            lines.append(f"| `{name}` | `{json.dumps(value)}` | {meaning} |")
    return "\n".join(line.replace("||", "| |") for line in lines) + "\n"


def readme():
    """What the file should say."""
    text = (CHART / "README.md").read_text()
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    (CHART / "README.md").write_text(readme())
