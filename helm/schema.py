#!/usr/bin/env python3
"""Puts config/outrigger.schema.json into outrigger/values.schema.json, as what may stand below `config`.

    python3 helm/schema.py

`outrigger schema` prints that file, and a test compares the two.
"""

import json
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
VALUES = ROOT / "helm" / "outrigger" / "values.schema.json"
ABOUT = "The proxy's own configuration, as in config/outrigger.yaml, without the addresses: these follow `ports`."


def main():
    """Writes the chart's schema anew."""
    text = (ROOT / "config" / "outrigger.schema.json").read_text()
    config = json.loads(text.replace('"#/properties/', '"#/$defs/config/properties/'))
    # Of a document of its own.
    del config["$schema"]
    values = json.loads(VALUES.read_text())
    values["properties"]["config"] = {"description": ABOUT, "$ref": "#/$defs/config"}
    values["$defs"]["config"] = config
    VALUES.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
