"""Writes what is generated from the events: `make contracts`."""

from pathlib import Path

from gyral.contracts import documents

ROOT = Path(__file__).resolve().parents[4]


def main() -> None:
    """Write the schemas, the AsyncAPI document and docs/events.md into the checkout."""
    folder = ROOT / "contracts" / "schemas"
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in documents.schemas():
        (folder / name).write_text(documents.as_text(schema), encoding="utf-8")
    asyncapi = documents.as_text(documents.asyncapi())
    (ROOT / "contracts" / "asyncapi.json").write_text(asyncapi, encoding="utf-8")
    (ROOT / "docs" / "events.md").write_text(documents.events_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
