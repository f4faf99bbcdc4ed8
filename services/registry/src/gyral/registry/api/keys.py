"""Routes for API keys."""

from http import HTTPStatus
from typing import Annotated, Self

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, Field, model_validator

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.contracts.events import Contract
from gyral.contracts.names import ModelName, Uuid
from gyral.kit.access import Caller
from gyral.kit.http import read_model, scope
from gyral.kit.parameters import AfterId, Instant, Limit
from gyral.kit.refusals import Refusal
from gyral.registry.api import Desk
from gyral.registry.api.specs import not_found
from gyral.registry.domain import keys
from gyral.registry.store.specs import Key

Admin = Annotated[Caller, scope(Scope.ADMIN)]


class NewKey(Contract):
    """A key to issue."""

    name: str = Field(min_length=1, max_length=100)
    scopes: frozenset[Scope] = Field(min_length=1)
    models: frozenset[ModelName] | None = Field(default=None, min_length=1, max_length=1000)
    """The models that it may ask; None: every one."""
    expires_at: Instant | None = None

    @model_validator(mode="after")
    def _models_bound_it(self) -> Self:
        if self.models is not None and self.scopes != {Scope.INFER}:
            raise ValueError(
                "models: expected scope infer alone, as other scopes know no models;"
                f" found {', '.join(sorted(self.scopes))}"
            )
        return self


class IssuedKey(Contract):
    """The only answer that ever shows the key."""

    key_id: str
    key: str


class KeyView(Contract):
    """A key without its secret."""

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    models: tuple[ModelName, ...] | None
    expires_at: AwareDatetime | None
    revoked: bool


def routes(desk: Desk) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.post("/v1/keys", status_code=HTTPStatus.CREATED)
    async def issue(request: Request, caller: Admin) -> IssuedKey:
        asked = await read_model(request, NewKey)
        if asked.expires_at is not None and asked.expires_at <= desk.now():
            raise Refusal(
                422,
                "invalid",
                f"expires_at: expected a time to come; found {asked.expires_at.isoformat()}",
                field="expires_at",
            )
        issued = keys.issue(desk.entropy(keys.KEY_BYTES))
        key = Key(
            key_id=desk.new_id(),
            name=asked.name,
            generation=1,
            sha256=issued.sha256,
            scopes=tuple(sorted(asked.scopes)),
            models=None if asked.models is None else tuple(sorted(asked.models)),
            expires_at=asked.expires_at,
            revoked=False,
        )
        async with desk.begin() as tx:
            await tx.add_key(key, now=desk.now())
            await tx.publish(_changed(key))
            await tx.audit(
                now=desk.now(),
                actor=caller.name,
                action="key.issued",
                subject=key.key_id,
                reason="asked for",
                change={"name": key.name, "scopes": list(key.scopes), "models": key.models},
            )
        return IssuedKey(key_id=key.key_id, key=issued.text)

    @router.get("/v1/keys")
    async def every(_caller: Admin, after: AfterId = None, limit: Limit = 100) -> list[KeyView]:
        """List keys, oldest first."""
        async with desk.begin() as tx:
            return [
                KeyView(
                    key_id=key.key_id,
                    name=key.name,
                    scopes=key.scopes,
                    models=key.models,
                    expires_at=key.expires_at,
                    revoked=key.revoked,
                )
                for key in await tx.keys(after=after, limit=limit)
            ]

    @router.delete("/v1/keys/{key_id}", status_code=HTTPStatus.NO_CONTENT)
    async def revoke(key_id: Uuid, caller: Admin) -> None:
        async with desk.begin() as tx:
            key = await tx.revoke_key(key_id)
            if key is None:
                raise not_found("key", key_id)
            await tx.publish(_changed(key))
            await tx.audit(
                now=desk.now(),
                actor=caller.name,
                action="key.revoked",
                subject=key_id,
                reason="asked for",
                change={"name": key.name},
            )

    return router


def _changed(key: Key) -> AccessKeyChanged:
    return AccessKeyChanged(
        key_id=key.key_id,
        name=key.name,
        generation=key.generation,
        sha256=key.sha256,
        scopes=frozenset(key.scopes),
        models=None if key.models is None else frozenset(key.models),
        expires_at=key.expires_at,
        revoked=key.revoked,
    )
