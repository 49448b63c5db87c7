"""Train on patients of several hospitals, attack the model before others do, and prove offline what happened."""

__version__ = "0.1.0"
