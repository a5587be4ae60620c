"""Pruning methods side by side: rows made from recipes and seeds, and the table of what came of them."""

from .rows import CompareError as CompareError
from .rows import Row as Row
from .rows import compare as compare
from .rows import rows_of as rows_of
from .table import compare_page as compare_page
from .table import summarize as summarize
