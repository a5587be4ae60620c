"""A network on arrays: what a user's network becomes, and what programs, reads, trains and keeps it."""

from .conversion import convert as convert
from .conversion import load as load
from .matrix import MatrixOnArrays as MatrixOnArrays
from .network import NetworkOnArrays as NetworkOnArrays
