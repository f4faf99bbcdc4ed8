"""A key's end is a time that every part of the house can hold."""

import pytest
from pydantic import TypeAdapter, ValidationError

from gyral.kit.parameters import AfterTime
from gyral.registry.api.keys import NewKey


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_is_none_in_some_zone_is_refused(time):
    with pytest.raises(ValidationError, match="expires_at"):
        NewKey.model_validate_json(
            f'{{"name": "k", "scopes": ["read"], "expires_at": "{time}"}}'
        )
    with pytest.raises(ValidationError):
        TypeAdapter(AfterTime).validate_python(time)
