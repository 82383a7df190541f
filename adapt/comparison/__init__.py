"""Comparing strategies: the grid of runs, their execution, the store of results, the table."""

from adapt.comparison.grid import Comparison, compare
from adapt.comparison.store import Store
from adapt.tables.table import Table, table_of

__all__ = ["Comparison", "Store", "Table", "compare", "table_of"]
