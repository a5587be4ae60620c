"""Area, power and energy of a mapped network."""

from .card import CostCard as CostCard
from .card import load_cost_card as load_cost_card
from .estimate import PARTS as PARTS
from .estimate import LayerCost as LayerCost
from .estimate import cost_by_layer as cost_by_layer
from .estimate import total as total
from .estimate import vectors_per_image as vectors_per_image
