"""The laws of data formats: of rows that are features, and of tables. They tell an author what to fix.

A complete test file::

    def write(path, x, labels):
        rows = x if labels is None else np.column_stack([x, labels])
        path.write_text("\\n".join(",".join(map(repr, row)) for row in rows.tolist()) + "\\n")

    class TestAcmeRows(RowFormatLaws):
        @pytest.fixture
        def case(self):
            return RowCase(reader=AcmeRows(AcmeOptions()), write=write, suffix=".acme", bad_lines=(b"1,x",))

A format of tables has ``TableFormatLaws``, and a ``TableCase`` whose function writes columns. A subclass for each set
of options that changes how a file is read is a good idea; so is one whose reader makes very small blocks.
"""

from __future__ import annotations

from lambdaml_core.testing.data_format_laws.rows import RowCase, RowLaws
from lambdaml_core.testing.data_format_laws.tables import TableCase, TableLaws

__all__ = ["RowCase", "RowFormatLaws", "TableCase", "TableFormatLaws"]


class RowFormatLaws(RowLaws):
    """All laws of a format whose rows are features. Override the fixture ``case``."""


class TableFormatLaws(TableLaws):
    """All laws of a format of tables. Override the fixture ``case``."""
