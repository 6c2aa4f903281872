"""Tables of a run directory, with clear errors where one is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latency_models.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def read_table(
    path: Path, *, texts: Sequence[str], numbers: Sequence[str], optional: Sequence[str] = ()
) -> pd.DataFrame:
    """Columns of a CSV or Parquet file: texts as categories, numbers as floats; what is empty is missing.

    Parameters
    ----------
    path : Path
        The file.
    texts, numbers : sequence of str
        Columns that are read; others are not.
    optional : sequence of str
        Those of them that need not be there.

    Raises
    ------
    InputError
        The file is no such table, or Parquet cannot be read here.
    """
    import pandas as pd

    types = dict.fromkeys(texts, "category") | dict.fromkeys(numbers, "float64")
    try:
        if path.suffix == ".parquet":
            from analysis.result_files import require_pyarrow

            require_pyarrow(f"reading {path}")
            table = pd.read_parquet(path)
            table = table[[name for name in types if name in table.columns]]
            table = table.astype({name: types[name] for name in table.columns})
        else:
            table = pd.read_csv(
                path,
                usecols=lambda name: name in types,
                dtype=types,
                keep_default_na=False,
                na_values={name: [""] for name in types},
                encoding="utf-8",
            )
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}; simulate the scenario again") from None
    missing = [name for name in types if name not in table.columns and name not in optional]
    if missing:
        raise InputError(f"{path} lacks the column {missing[0]!r}; simulate the scenario again")
    return table
