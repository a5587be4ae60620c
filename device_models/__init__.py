"""How the physical parts behave: memristors, wires, the array they make, and the converters around it."""

from .card import CardError as CardError
from .card import DeviceCard as DeviceCard
from .card import card_names as card_names
from .card import load_card as load_card
from .random import stream as stream
from .random import torch_stream as torch_stream
from .wire_table import wire_nodes as wire_nodes
from .wire_table import wire_resistance as wire_resistance
