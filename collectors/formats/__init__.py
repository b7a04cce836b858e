"""Candles and macro observations as files: CSV, Parquet, and the databases of earlier tools.

Nothing here knows the product's database. Files are read and written row by row or in batches, so
that a file of any length needs the same memory.

    FormatError         the file cannot be read or written as what it should be
        SchemaError     a column or a value is not what the format says: names file, row, column
"""

from __future__ import annotations


class FormatError(Exception):
    """A file that cannot be used; the message is one line and names the file."""


class SchemaError(FormatError):
    """A file whose columns or values are wrong; the message names row, column and reason."""
