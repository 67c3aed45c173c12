"""Data, one module per modality: every loader has an embedded default that works offline and a larger source online."""

from fmcourse.data.batch import Batch, DataSource
from fmcourse.data.registry import DATASETS, DatasetCard, MissingDataError

__all__ = ["DATASETS", "Batch", "DataSource", "DatasetCard", "MissingDataError"]
