"""Step `readme`: the README against the program. Every configuration key is in it with its default, every reason and
command too, and its links lead somewhere.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gate import rows  # noqa: E402
from gate.places import GATEWAY, ROOT  # noqa: E402


def keys(schema: dict, node: dict, path: str = "") -> dict[str, object]:
    """Every key of the configuration, with its default or `None`; keys that a person chooses are left out of paths."""
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]] | {k: v for k, v in node.items() if k != "$ref"}
    found: dict[str, object] = {}
    for option in node.get("anyOf", []) + node.get("allOf", []):
        found |= keys(schema, option, path)
    for key, child in node.get("properties", {}).items():
        below = keys(schema, child, f"{path}{key}.")
        found |= below or {f"{path}{key}": child.get("default")}
    extra = node.get("additionalProperties")
    if isinstance(extra, dict):
        found |= keys(schema, extra, path)
    return found


def documented(text: str) -> dict[str, list[str]]:
    """Table rows of the README: each `key` in a first column, with what stands in its second ones."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) >= 2:
            for key in re.findall(r"`([^`]+)`", cells[0]):
                found.setdefault(key, []).append(cells[1])
    return found


def wording(default: object) -> str:
    """A default as the README writes it."""
    if default is None:
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default).lower() if isinstance(default, bool) else str(default)


def check_keys(table: dict[str, list[str]]) -> None:
    schema = json.loads(subprocess.run([GATEWAY, "schema"], capture_output=True, check=True, timeout=30).stdout)
    every = keys(schema, schema)
    rows.tell("the schema has keys", len(every) > 30, f"only {len(every)}")
    for key, default in every.items():
        last = key.rsplit(".", 1)[-1]
        names = (key, key.replace("profiles.", "profiles.NAME."), last)
        # Two sections may have a key of one name.
        said = [cell for name in names for cell in table.get(name, [])]
        written = wording(default)
        if not said:
            rows.tell(f"README: {key}", False, "is not in a table")
        elif written and not any(written in cell.replace("`", " ").replace(", ", " ").split() for cell in said):
            rows.tell(f"README: {key}", False, f"its default is {written}, the table says {' or '.join(said)}")
        else:
            rows.tell(f"README: {key}", True)


def check_commands(table: dict[str, list[str]]) -> None:
    help_text = subprocess.run([GATEWAY, "--help"], capture_output=True, text=True, check=True, timeout=30).stdout
    section = help_text.split("Commands:", 1)[-1].split("Options:", 1)[0]
    named = {word for key in table for word in key.split()}
    for command in re.findall(r"(?m)^  ([a-z][a-z-]*)", section):
        if command != "help":
            rows.tell(f"README: command {command}", command in named, "is not in the table of commands")


def check_reasons(table: dict[str, list[str]]) -> None:
    source = (ROOT / "src" / "protocol" / "failure.rs").read_text(encoding="utf-8")
    reasons = re.findall(r'Reason::\w+ => "(\w+)"', source)
    rows.tell("the source has reasons", len(reasons) >= 5, f"only {len(reasons)}")
    for reason in reasons:
        rows.tell(f"README: reason {reason}", reason in table, "is not in the table of reasons")


def check_links() -> None:
    for paper in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / paper).read_text(encoding="utf-8")
        dead = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link and not (ROOT / link).exists()]
        rows.tell(f"{paper}: links", not dead, f"lead nowhere: {dead}")


if __name__ == "__main__":
    tables = documented((ROOT / "README.md").read_text(encoding="utf-8"))
    check_links()
    check_keys(tables)
    check_commands(tables)
    check_reasons(tables)
