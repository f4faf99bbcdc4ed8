"""Builds a Bento of a version.

The export that runs wherever BentoML does, around the very predictor that serves.

The build runs in a process of its own
(`python -m gyral.deployer.engine.bento CONTEXT HOME TARGET NAME`): BentoML keeps its store in
process-wide settings and imports the service it packs.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gyral.deployer.engine.locking import locked, pinned
from gyral.modelling.manifest import Manifest

TIMEOUT_S = 120
REQUIREMENTS_FILE = "requirements.txt"
PACKED = ("gyral.contracts", "gyral.kit", "gyral.modelling", "gyral.runtime")
"""Packages whose sources travel in the Bento: the predictor and what it imports."""

REQUIREMENTS = ("bentoml", "msgspec", "numpy", "onnxruntime", "pydantic")
TORCH_REQUIREMENTS = ("safetensors", "torch")
"""Of a version served as torch, in the versions it was trained with: the deployer has none.

What they themselves require is not fixed.
"""

SERVICE = '''"""Serves one version of one Gyral model; built by Gyral's deployer."""

from pathlib import Path

import bentoml

HERE = Path(__file__).parent


@bentoml.service
class Model:
    """Answers with the probability of the positive class for each row."""

    def __init__(self) -> None:
        from gyral.runtime.engine import Predictor

        manifest, code = (HERE / "manifest.json").read_bytes(), HERE / "code.zip"
        if code.exists():
            weights = (HERE / "model.safetensors").read_bytes()
            self._predictor = Predictor.of(manifest, weights, code.read_bytes())
        else:
            self._predictor = Predictor.of(manifest, (HERE / "model.onnx").read_bytes())

    @bentoml.api
    def predict(self, columns: dict[str, list[float | bool | str | None]]) -> list[float]:
        """Take one list a feature, all of one length."""
        return self._predictor.predict_lists(columns).tolist()
'''


class BentoError(RuntimeError):
    """BentoML did not build the Bento."""


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """What a Bento is made of."""

    model: str
    version: int
    model_file: bytes
    """ONNX; with `code`, weights."""
    manifest: bytes
    code: bytes | None = None

    @property
    def requirements(self) -> list[str]:
        """The libraries that the Bento installs, in one version each; raises ValueError.

        What torch itself requires is not among them.
        """
        fixed = locked(REQUIREMENTS)
        if self.code is None:
            return fixed
        libraries = Manifest.from_json(self.manifest).libraries
        return fixed + [pinned(name, libraries.get(name, "")) for name in TORCH_REQUIREMENTS]


async def build_bento(files: VersionFiles) -> bytes:
    """Return the version's Bento as one archive.

    The build context is a folder made for it alone: whatever lies beside it would be packed
    too.

    Raises:
        BentoError: BentoML failed or took longer than `TIMEOUT_S`.
        ValueError: the manifest names no version of a library that the Bento needs.
    """
    with tempfile.TemporaryDirectory(prefix="gyral-bento-") as folder:
        context, target = Path(folder, "context"), Path(folder, "out.bento")
        await asyncio.to_thread(_lay_out, files, context)
        name = f"{files.model}:{files.version}"
        arguments = (str(context), str(Path(folder, "home")), str(target), name)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __spec__.name, *arguments,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, errors = await child.communicate()
        except TimeoutError as error:
            raise BentoError(
                f"{name}: expected a Bento within {TIMEOUT_S} s; found none"
            ) from error
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode != 0:
            last = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise BentoError(
                f"{name}: expected a Bento; found exit status {child.returncode}: {last}"
            )
        return await asyncio.to_thread(target.read_bytes)


def _lay_out(files: VersionFiles, context: Path) -> None:
    """Write the service, the model and the packages it needs."""
    context.mkdir()
    (context / "service.py").write_text(SERVICE, encoding="utf-8")
    name = "model.onnx" if files.code is None else "model.safetensors"
    (context / name).write_bytes(files.model_file)
    (context / "manifest.json").write_bytes(files.manifest)
    if files.code is not None:
        (context / "code.zip").write_bytes(files.code)
    requirements = "\n".join([*files.requirements, ""])
    (context / REQUIREMENTS_FILE).write_text(requirements, encoding="utf-8")
    for package in PACKED:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise BentoError(f"{package}: expected an installed package; found none")
        shutil.copytree(
            Path(spec.origin).parent,
            context.joinpath(*package.split(".")),
            ignore=shutil.ignore_patterns("__pycache__", "migrations"),
        )


def main(context: str, home: str, target: str, name: str) -> None:
    """Build in this process."""
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.environ["BENTOML_HOME"] = home
    import bentoml  # noqa: PLC0415 - reads its settings when imported

    model, version = name.split(":")
    bento = bentoml.bentos.build(
        "service:Model",
        name=model,
        version=version,
        build_ctx=context,
        include=["*"],
        python={"requirements_txt": REQUIREMENTS_FILE, "lock_packages": False},
    )
    bento.export(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
