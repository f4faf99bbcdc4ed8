"""The page on networks shows a declaration that is taken, and names each parameter there is."""

import dataclasses
import re

import pytest
import yaml
from pydantic import ValidationError

from gyral.contracts.specs.model import ModelSpec, Served, Trainer
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "networks.md").read_text()


def test_the_declaration_is_taken_and_without_its_own_runtime_it_is_not():
    [shown] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    document = yaml.safe_load(shown)
    assert ModelSpec.model_validate(document).spec.train.served is Served.TORCH
    del document["spec"]["serving"]
    with pytest.raises(ValidationError, match=r"serving\.runtime: expected own"):
        ModelSpec.model_validate(document)


@pytest.mark.torch
@pytest.mark.parametrize("trainer", [Trainer.MLP, Trainer.TRANSFORMER])
def test_every_parameter_is_named_with_its_default(trainer):
    networks = pytest.importorskip("gyral.trainer.engine.networks")
    [line] = [line for line in PAGE.splitlines() if line.startswith(f"| `{trainer}`")]
    shared = "".join(line for line in PAGE.splitlines() if line.startswith("| `torch.mlp`"))
    for field in dataclasses.fields(networks.RECIPES[trainer]):
        if field.name != "serve":
            shown = re.search(rf"`{field.name}` ([0-9.]+)", line + shared)
            assert shown, field.name
            assert float(shown[1]) == field.default
