"""The models that Ranvier has to compile whole; a framework is imported only when one is built.

`names()` lists the models, `model(name)` describes one, `model(name).build()` makes the module.
"""

from tests.zoo.entry import Sizes, ZooModel
from tests.zoo.registry import model, names

__all__ = ["Sizes", "ZooModel", "model", "names"]
