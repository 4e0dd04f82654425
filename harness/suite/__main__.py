"""`python -m harness.suite`: print the JSON Schema of suite files, for editors (`suites/suite.schema.json`)."""

import json
import sys

from harness.suite.fields import Closed

if __name__ == "__main__":
    # Set before the tables are defined. Only the schema has their keys' docstrings, and reading them takes 0.1 s.
    Closed.model_config["use_attribute_docstrings"] = True
    from harness.suite.schema import Suite

    sys.stdout.write(json.dumps(Suite.model_json_schema(), indent=2, sort_keys=True) + "\n")
