"""The field's metrics on anybody's samples, and reports of them."""

from adit.eval.pictures import write_grid_png
from adit.eval.report import write_html
from adit.eval.summary import Summary, summarise

__all__ = ["Summary", "summarise", "write_grid_png", "write_html"]
