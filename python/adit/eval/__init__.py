"""The field's metrics on anybody's samples, and reports of them."""

from adit.eval.evaluation import evaluate
from adit.eval.pictures import write_grid_png
from adit.eval.protocols import PROTOCOLS
from adit.eval.report import write_html
from adit.eval.results import Evaluation, Metric
from adit.eval.sieve import Sieve
from adit.eval.summary import Summary, summarise

__all__ = [
    "PROTOCOLS",
    "Evaluation",
    "Metric",
    "Sieve",
    "Summary",
    "evaluate",
    "summarise",
    "write_grid_png",
    "write_html",
]
