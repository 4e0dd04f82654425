"""`python -m harness.suite`: print the JSON Schema of suite files, for editors (`suites/suite.schema.json`)."""

import sys

from harness.suite.load import json_schema

if __name__ == "__main__":
    sys.stdout.write(json_schema())
