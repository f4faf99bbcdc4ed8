"""Gives Docker Compose the secrets that the local runner generates for itself."""

import shutil

from gyral.local.instance import Instance, write_private

_READABLE = 0o444


def write_env(instance: Instance) -> list[str]:
    """Write `.env` beside docker-compose.yml and the key files it mounts; tell what is next."""
    values = instance.prepare()
    # A container's user is not ours: the copies are readable, in a folder only we may enter.
    folder = instance.secrets / "docker"
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in instance.document().instance.files:
        (folder / name).unlink(missing_ok=True)
        shutil.copyfile(instance.secrets / name, folder / name)
        (folder / name).chmod(_READABLE)
    lines = [f"{name}={values[name]}" for name in instance.document().instance.secrets]
    env_file = instance.compose.parent / ".env"
    write_private(env_file, "\n".join([*lines, f"GYRAL_SECRETS={folder}", ""]))
    return [f"wrote {env_file}; next: docker compose up --build --wait"]
