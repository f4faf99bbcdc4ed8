"""The registry's knobs."""

from pydantic import SecretStr

from gyral.kit.settings import CommonSettings


class Settings(CommonSettings):
    """Read once, in `__main__`; a missing or malformed value stops the process at start."""

    registry_admin_key: SecretStr
    """The first key, with scope admin; usually given as REGISTRY_ADMIN_KEY_FILE."""
