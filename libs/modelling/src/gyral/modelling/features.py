"""The one road from raw columns to the float32 matrix a model reads, at training and after.

Fitted parameters are plain JSON: whoever trains, serves or watches a model applies the same
numbers with the same code, so that training and serving cannot drift apart.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import repeat

import msgspec
import numpy as np
from numpy.typing import NDArray

from gyral.modelling.columns import (
    Column,
    ColumnError,
    Columns,
    Floats,
    categories_by_frequency,
    numbers,
    rows_of,
    texts,
)

__all__ = [
    "Block",
    "Column",
    "ColumnError",
    "Columns",
    "Encoding",
    "FeatureKind",
    "FeatureSpec",
    "FittedCategories",
    "FittedNumber",
    "Transform",
    "fit_transform_parameters",
]

FLOAT32_LIMIT = float(np.finfo(np.float32).max)
"""Largest number handed to a model: what lies beyond would become infinity in float32."""

STANDARD_LIMIT = 100.0
"""Standard deviations at which a standardised number is cut, so one wild cell stays one."""

MAX_CATEGORIES = {"ordinal": 1024, "one_hot_standard": 64, "embedding": 1024}


class FeatureKind(StrEnum):
    """How a raw field is read."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    BOOLEAN = "boolean"


class Encoding(StrEnum):
    """The layout of the matrix, one for each family of models.

    `ordinal` (trees): one column a feature; a category is its rank by training frequency, from
    0; whatever is missing, rare or unseen is NaN.
    `one_hot_standard` (linear): a number is standardised, missing imputed by the mean beside an
    indicator; a category is one column each for those listed and one for all else.
    `embedding` (networks): all numbers first, as above, then one code per categorical feature,
    from 1; 0 is whatever is missing, rare or unseen.
    """

    ORDINAL = "ordinal"
    ONE_HOT_STANDARD = "one_hot_standard"
    EMBEDDING = "embedding"


class FeatureSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A field that a model reads, as its owner declared it."""

    name: str
    kind: FeatureKind
    nullable: bool = True


class FittedNumber(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="as", tag="number"
):
    """What training rows say of a numeric or boolean feature; missing cells are left out."""

    name: str
    mean: float
    sd: float
    missing_seen: bool


class FittedCategories(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="as", tag="categories"
):
    """The categories of a feature in order of training frequency, ties by name."""

    name: str
    categories: tuple[str, ...]

    def codes(self, first: int) -> dict[str | None, int]:
        """Map each category to its code, counting from `first`."""
        return {category: code for code, category in enumerate(self.categories, first)}


@dataclass(frozen=True, slots=True)
class Block:
    """Rows whose features are all numbers."""

    names: tuple[str, ...]
    """Of the columns, in their order."""
    cells: Floats
    """Shape (n, len(names)); missing is NaN."""

    @property
    def columns(self) -> Columns:
        """The same, column by column."""
        return {name: self.cells[:, place] for place, name in enumerate(self.names)}


class Transform(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Fitted parameters of an encoding, with the code that applies them."""

    encoding: Encoding
    features: tuple[FittedNumber | FittedCategories, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Raw columns it reads, in order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the matrix columns, in order; as many as the matrix is wide."""
        return tuple(name for _, columns in self._layout for name in columns)

    @cached_property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of codes per categorical feature under `embedding`, the 0 included."""
        return tuple(len(feature.categories) + 1 for _, feature in self._categorical)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: equal if and only if the parameters are."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    def apply(self, columns: Columns | Block) -> NDArray[np.float32]:
        """Encode n rows, shape (n, len(outputs)); columns it does not know are ignored.

        Raises:
            ColumnError: a column is absent, of another length, or no number where one is due.
        """
        if isinstance(columns, Block):
            if self._takes_blocks and columns.names == self.names:
                limited = columns.cells.clip(-FLOAT32_LIMIT, FLOAT32_LIMIT)
                return limited.astype(np.float32)
            columns = columns.columns
        rows = rows_of(columns, self.names)
        matrix = np.empty((rows, len(self.outputs)), dtype=np.float32)
        self._put_numbers(matrix, columns)
        for place, feature in self._categorical:
            self._put_categories(matrix, place, feature, columns[feature.name])
        return matrix

    def _put_numbers(self, matrix: NDArray[np.float32], columns: Columns) -> None:
        if not self._numeric:
            return
        raw = np.empty((len(matrix), len(self._numeric)), dtype=np.float64)
        for place, (_, feature) in enumerate(self._numeric):
            raw[:, place] = numbers(feature.name, columns[feature.name])
        targets = [place for place, _ in self._numeric]
        raw.clip(-FLOAT32_LIMIT, FLOAT32_LIMIT, out=raw)
        if self.encoding is Encoding.ORDINAL:
            matrix[:, targets] = raw
            return
        missing = np.isnan(raw)
        standard = ((raw - self._means) / self._sds).clip(-STANDARD_LIMIT, STANDARD_LIMIT)
        standard[missing] = 0.0
        matrix[:, targets] = standard
        indicated = [at for at, (_, it) in enumerate(self._numeric) if it.missing_seen]
        matrix[:, [targets[at] + 1 for at in indicated]] = missing[:, indicated]

    def _put_categories(
        self,
        matrix: NDArray[np.float32],
        place: int,
        feature: FittedCategories,
        column: Column,
    ) -> None:
        index, unknown = self._codes[feature.name]
        codes = map(index.get, texts(column), repeat(unknown))
        if self.encoding is not Encoding.ONE_HOT_STANDARD:
            matrix[:, place] = np.fromiter(codes, np.float32, len(matrix))
            return
        matrix[:, place : place + len(feature.categories) + 1] = 0.0
        hot = np.fromiter(codes, np.int64, len(matrix))
        matrix[np.arange(len(matrix)), place + hot] = 1.0

    @cached_property
    def _layout(self) -> tuple[tuple[FittedNumber | FittedCategories, tuple[str, ...]], ...]:
        ordered: Iterable[FittedNumber | FittedCategories] = self.features
        if self.encoding is Encoding.EMBEDDING:
            ordered = sorted(ordered, key=lambda it: isinstance(it, FittedCategories))
        return tuple((feature, self._columns_of(feature)) for feature in ordered)

    def _columns_of(self, feature: FittedNumber | FittedCategories) -> tuple[str, ...]:
        name = feature.name
        if self.encoding is Encoding.ORDINAL:
            return (name,)
        if isinstance(feature, FittedNumber):
            return (name, f"{name} missing") if feature.missing_seen else (name,)
        if self.encoding is Encoding.EMBEDDING:
            return (name,)
        return (*(f"{name}={category}" for category in feature.categories), f"{name} other")

    @cached_property
    def _places(self) -> tuple[tuple[int, FittedNumber | FittedCategories], ...]:
        widths = [len(columns) for _, columns in self._layout]
        starts = np.cumsum([0, *widths]).tolist()
        return tuple(zip(starts, (feature for feature, _ in self._layout), strict=False))

    @cached_property
    def _numeric(self) -> tuple[tuple[int, FittedNumber], ...]:
        return tuple((at, it) for at, it in self._places if isinstance(it, FittedNumber))

    @cached_property
    def _categorical(self) -> tuple[tuple[int, FittedCategories], ...]:
        return tuple((at, it) for at, it in self._places if isinstance(it, FittedCategories))

    @cached_property
    def _takes_blocks(self) -> bool:
        """Tell whether rows of numbers become the matrix as they are."""
        return self.encoding is Encoding.ORDINAL and not self._categorical

    @cached_property
    def _means(self) -> Floats:
        return np.array([feature.mean for _, feature in self._numeric])

    @cached_property
    def _sds(self) -> Floats:
        return np.array([feature.sd for _, feature in self._numeric])

    @cached_property
    def _codes(self) -> dict[str, tuple[dict[str | None, int], float]]:
        """Category to code, and the code of everything else, per feature."""
        codes: dict[str, tuple[dict[str | None, int], float]] = {}
        for _, feature in self._categorical:
            match self.encoding:
                case Encoding.ORDINAL:
                    codes[feature.name] = (feature.codes(0), np.nan)
                case Encoding.ONE_HOT_STANDARD:
                    codes[feature.name] = (feature.codes(0), len(feature.categories))
                case Encoding.EMBEDDING:
                    codes[feature.name] = (feature.codes(1), 0)
        return codes


def fit_transform_parameters(
    columns: Columns,
    features: Sequence[FeatureSpec],
    encoding: Encoding,
    *,
    max_categories: int | None = None,
) -> Transform:
    """Learn from training rows, and from them alone, how to encode these features.

    Args:
        columns: the raw training columns, one per feature and of one length.
        features: what the model reads, in order.
        encoding: the layout wanted.
        max_categories: most categories kept per feature, the frequent first; by default 64 for
            one-hot columns and 1024 otherwise.

    Raises:
        ColumnError: a column is absent, of another length, or no number where one is due.
    """
    rows_of(columns, [feature.name for feature in features])
    kept = MAX_CATEGORIES[encoding] if max_categories is None else max_categories
    return Transform(
        encoding,
        tuple(
            _fit_categories(feature.name, columns[feature.name], kept)
            if feature.kind is FeatureKind.CATEGORICAL
            else _fit_number(feature.name, columns[feature.name])
            for feature in features
        ),
    )


def _fit_categories(name: str, column: Column, kept: int) -> FittedCategories:
    return FittedCategories(name, tuple(categories_by_frequency(column)[:kept]))


def _fit_number(name: str, column: Column) -> FittedNumber:
    cells = numbers(name, column)
    present = cells[~np.isnan(cells)].clip(-FLOAT32_LIMIT, FLOAT32_LIMIT)
    if not len(present):
        return FittedNumber(name, mean=0.0, sd=1.0, missing_seen=len(cells) > 0)
    sd = float(present.std())
    return FittedNumber(
        name,
        mean=float(present.mean()),
        # A constant column has rounding noise for a spread: dividing by it would amplify it.
        sd=sd if sd > 1e-9 * (1.0 + abs(float(present.mean()))) else 1.0,
        missing_seen=len(present) < len(cells),
    )
