"""Declaring streams and models.

The next generation, its event, and its entry in the audit log.
"""

from dataclasses import dataclass
from datetime import datetime

from gyral.contracts.data import StreamDeclared
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.specs.stream import StreamSpec
from gyral.contracts.training import Cause, RunRequested
from gyral.contracts.versions import ModelDeclared
from gyral.registry.domain import specs
from gyral.registry.domain.evolution import check_compatible
from gyral.registry.store.bootstraps import BootstrapTx
from gyral.registry.store.specs import Declared


@dataclass(frozen=True, slots=True)
class Author:
    """Who declares, when, and the id of the training request this may lead to."""

    name: str
    now: datetime
    request_id: str


class DeclarationTx(BootstrapTx):
    """A transaction that takes declarations."""

    async def stream_spec(self, name: str) -> StreamSpec | None:
        """Return a stream's latest spec, or None."""
        declared = await self.declared("Stream", name)
        return StreamSpec.model_validate_json(declared.document) if declared else None

    async def model_spec(self, name: str) -> ModelSpec | None:
        """Return a model's latest spec, or None."""
        declared = await self.declared("Model", name)
        return ModelSpec.model_validate_json(declared.document) if declared else None

    async def declare_stream(self, spec: StreamSpec, author: Author) -> specs.Generation:
        """Take a stream's declaration.

        Raises:
            IncompatibleSpecError: rows or readers of the present generation would break.
        """
        await self.hold("Stream", spec.name)
        before = await self.stream_spec(spec.name)
        if before is not None:
            check_compatible(before.spec, spec.spec)
        generation = await self._next(spec, author)
        if generation.changed:
            await self.publish(
                StreamDeclared(name=spec.name, generation=generation.number, spec=spec)
            )
        return generation

    async def declare_model(self, spec: ModelSpec, author: Author) -> specs.Generation:
        """Take a model's declaration; what only a new version can carry asks for one.

        Raises:
            IncompatibleSpecError: it names a stream or field that is not declared, gives a
                feature another type than it had, or leaves the runtimes that its versions need.
        """
        await self.hold("Model", spec.name)
        await self._check_references(spec)
        before = await self.model_spec(spec.name)
        if before is not None:
            code = await self.newest_of_torch(spec.name)
            specs.check_placement(before.spec, spec.spec, torch_version=code)
        generation = await self._next(spec, author)
        if generation.changed:
            await self.publish(
                ModelDeclared(name=spec.name, generation=generation.number, spec=spec)
            )
            if before is not None and specs.retrains(before.spec, spec.spec):
                await self.ask_for_training(
                    spec, generation.number, Cause.CODE, author, reason="spec changed"
                )
        await self.ask_for_bootstrap(spec, generation.number, author.request_id)
        return generation

    async def _check_references(self, spec: ModelSpec) -> None:
        """Refuse what the model cannot read, and remember the types of what it can."""
        features = await self.stream_spec(spec.spec.features.stream)
        labels = await self.stream_spec(spec.spec.label.stream)
        fields = specs.check_references(spec.spec, features=features, labels=labels)
        specs.check_feature_types(await self.feature_types(spec.name), fields)
        await self.keep_feature_types(spec.name, fields)

    async def ask_for_training(
        self, spec: ModelSpec, generation: int, cause: Cause, author: Author, *, reason: str
    ) -> bool:
        """Ask for a version on all data there are.

        False when a stream has none yet, or no champion serves.
        """
        features = await self.data(spec.spec.features.stream)
        labels = await self.data(spec.spec.label.stream)
        if features is None or labels is None or await self.champion(spec.name) is None:
            return False
        await self.publish(
            RunRequested(
                request_id=author.request_id,
                model=spec.name,
                cause=cause,
                as_of=min(features.watermark, labels.watermark),
                spec_generation=generation,
                evidence={"actor": author.name, "reason": reason},
            )
        )
        return True

    async def _next(self, spec: StreamSpec | ModelSpec, author: Author) -> specs.Generation:
        """Store the document when it changed, and say in the audit log what it was before."""
        document = spec.model_dump_json()
        sha256 = specs.content_digest(document.encode())
        before = await self.declared(spec.kind, spec.name)
        generation = specs.next_generation(
            before.generation if before else None, before.sha256 if before else None, sha256
        )
        if generation.changed:
            await self.declare(
                Declared(spec.kind, spec.name, generation.number, document, sha256),
                now=author.now,
                actor=author.name,
            )
            await self.audit(
                now=author.now,
                actor=author.name,
                action="spec.declared",
                subject=f"{spec.kind}/{spec.name}",
                reason="applied",
                change={
                    "generation": generation.number,
                    "before": before.sha256 if before else None,
                    "after": sha256,
                },
            )
        return generation
