"""Reports: run folders in, tables and one self-contained HTML page out. Never imports torch."""

from cuma.reports.formats import latex_table, markdown_table, rich_table
from cuma.reports.render import write_report
from cuma.reports.tables import comparison_table

__all__ = ["comparison_table", "latex_table", "markdown_table", "rich_table", "write_report"]
