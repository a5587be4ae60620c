"""Area, power, energy and time of a chip that holds a network."""

from .adc_law import ADCS as ADCS
from .adc_law import AdcLaw as AdcLaw
from .card import CostCard as CostCard
from .card import load_cost_card as load_cost_card
from .estimate import ChipCost as ChipCost
from .estimate import CostByPart as CostByPart
from .estimate import estimate as estimate
from .estimate import estimate_by_law as estimate_by_law
from .facts import ChipFacts as ChipFacts
from .facts import LayerFacts as LayerFacts
from .facts import TileFacts as TileFacts
from .facts import chip_facts as chip_facts
from .facts import dense_facts as dense_facts
from .facts import layer_facts as layer_facts
from .facts import polarities_unpruned as polarities_unpruned
from .routing import LayerRouting as LayerRouting
from .routing import mean_area_fraction as mean_area_fraction
from .routing import routing as routing
from .saving import FACTORS as FACTORS
from .saving import Saving as Saving
from .saving import saving as saving
from .scissor import crossbar_area as crossbar_area
from .scissor import routing_area as routing_area
from .scissor import scissor_block as scissor_block
from .vectors import vectors_per_image as vectors_per_image
