"""Train on patients of several hospitals, attack the model before others do, prove what happened."""

__version__ = "0.4.0.dev0"
