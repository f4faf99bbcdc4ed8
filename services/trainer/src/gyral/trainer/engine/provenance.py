"""What code and which libraries made a model, and the manifest that says so."""

import hashlib
from importlib import metadata, resources
from importlib.resources.abc import Traversable

from msgspec import UNSET

from gyral.modelling.features import FeatureSpec, Transform
from gyral.modelling.manifest import DatasetPin, Manifest, OnnxModel, TorchModel
from gyral.trainer.domain.splits import Split
from gyral.trainer.engine.order import Order
from gyral.trainer.engine.shipping import Shipped

_PACKAGES = (
    "gyral.trainer.engine",
    "gyral.trainer.engine.architectures",
    "gyral.trainer.domain",
    "gyral.modelling",
)
_LIBRARIES = ("numpy", "scikit-learn", "skl2onnx", "onnx", "onnxruntime")


def libraries(order: Order) -> dict[str, str]:
    """Return the versions of the libraries that decide a model's numbers."""
    names = (
        (*_LIBRARIES, "torch", "safetensors")
        if order.spec.train.trainer.startswith("torch.")
        else _LIBRARIES
    )
    return {name: metadata.version(name) for name in names}


def code_digest() -> str:
    """Return the SHA-256 of the training code, file by file in order of their names."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for file in sorted(_sources(resources.files(package)), key=lambda it: it.name):
            digest.update(f"{package}/{file.name}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def manifest_of(
    order: Order,
    transform: Transform,
    shipped: Shipped,
    *,
    specs: tuple[FeatureSpec, ...],
    ranges: Split,
    rows: int,
) -> Manifest:
    """Describe a shipped model completely enough to load it, check it and train it again."""
    tables = {table.stream: table.version for table in (order.features, order.labels)}
    return Manifest(
        model=order.model,
        run_id=order.run_id,
        trainer=order.spec.train.trainer,
        positive=order.spec.label.positive,
        inputs=specs,
        transform=transform,
        onnx=shipped.model if isinstance(shipped.model, OnnxModel) else UNSET,
        torch=shipped.model if isinstance(shipped.model, TorchModel) else UNSET,
        datasets=tuple(DatasetPin(stream=it, version=at) for it, at in tables.items()),
        cutoff_us=ranges.trained_until,
        rows=rows,
        seed=order.spec.train.seed,
        code_version=code_digest(),
        libraries=libraries(order),
    )


def _sources(package: Traversable) -> list[Traversable]:
    return [entry for entry in package.iterdir() if entry.name.endswith(".py")]
