"""Cards of models, datasets and Spaces on the Hugging Face Hub, and the handler of Inference Endpoints.

`handler.py` is copied unchanged into every model repository.
"""

from .dataset_card import dataset_card
from .examples import EXAMPLES, OPEN_EXAMPLES
from .model_card import Example, model_card
from .space_card import space_card

__all__ = ["EXAMPLES", "OPEN_EXAMPLES", "Example", "dataset_card", "model_card", "space_card"]
