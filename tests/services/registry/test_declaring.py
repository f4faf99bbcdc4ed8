"""What a model may not be declared to be, given what it was, against real Postgres."""

from importlib import resources

import pytest

from gyral.contracts.specs.model import ModelSpec
from gyral.registry.domain.specs import IncompatibleSpecError
from gyral.registry.store.declarations import Author
from tests.services.registry.builders import NOW, a_model, a_run, a_stream
from tests.services.registry.conftest import IDS
from tests.services.registry.test_handlers import handlers

pytestmark = pytest.mark.live


async def test_a_feature_that_comes_back_with_another_type_is_refused(declared):
    author = Author("tester", NOW, next(IDS))
    other = a_model().model_dump(mode="json")
    other["spec"]["features"] = {"stream": "orders", "fields": ["amount"]}
    other["spec"]["label"]["positive"] = "paid == true"
    back = a_model().model_dump(mode="json")
    back["spec"]["features"] = {"stream": "texts", "fields": ["pages"]}
    async with declared() as tx:
        paid = {"type": "boolean", "nullable": True}
        await tx.declare_stream(
            a_stream("orders", amount={"type": "number"}, paid=paid), author
        )
        await tx.declare_stream(a_stream("texts", pages={"type": "string"}), author)
        await tx.declare_model(ModelSpec.model_validate(other), author)
    with pytest.raises(IncompatibleSpecError, match=r"features.fields.pages: .* number"):
        async with declared() as tx:
            await tx.declare_model(ModelSpec.model_validate(back), author)


@pytest.mark.parametrize("with_code", [True, False])
async def test_a_model_that_may_go_back_to_a_version_with_code_keeps_its_runtimes(
    declared, with_code
):
    author = Author("tester", NOW, next(IDS))
    document = a_model().model_dump(mode="json")
    document["spec"]["serving"] = {"runtime": "own"}
    own = ModelSpec.model_validate(document)
    async with declared() as tx:
        await tx.declare_model(own, author)
    run = a_run()
    if with_code:
        made = run.artifacts.model_copy(update={"code": run.artifacts.onnx})
        run = run.model_copy(update={"artifacts": made}).delivered(run.delivery)
    await handlers(declared).run_succeeded(run)
    async with declared() as tx:
        await tx.declare_model(own, author)
        if not with_code:
            assert (await tx.declare_model(a_model(), author)).changed
            return
        with pytest.raises(IncompatibleSpecError, match="own, since version 1 was approved"):
            await tx.declare_model(a_model(), author)


async def test_the_types_of_features_declared_before_they_were_kept_are_found(pool, declared):
    migration = resources.files("gyral.registry") / "migrations" / "0002_create_feature.sql"
    await pool.execute("DROP TABLE feature")
    await pool.execute(migration.read_text())
    async with declared() as tx:
        assert await tx.feature_types("churn") == {"pages": "number"}
