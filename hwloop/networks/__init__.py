"""Networks: what of them goes onto crossbars, how they are built and kept, and those of the literature."""

from .build import build_network as build_network
from .build import onnx_file as onnx_file
from .build import with_ranks as with_ranks
from .factors import factor_layers as factor_layers
from .layers import DIGITAL_LAYERS as DIGITAL_LAYERS
from .layers import CrossbarLayer as CrossbarLayer
from .layers import NetworkError as NetworkError
from .layers import batch_norms as batch_norms
from .layers import bias_of as bias_of
from .layers import crossbar_layers as crossbar_layers
from .layers import from_matrix as from_matrix
from .layers import record_inputs as record_inputs
from .layers import to_matrix as to_matrix
from .layers import windows as windows
from .masks import apply_masks as apply_masks
from .onnx_network import load_onnx as load_onnx
from .weights import digest as digest
from .weights import load_weights as load_weights
from .weights import save_weights as save_weights
from .zoo import convnet as convnet
from .zoo import lenet as lenet
from .zoo import resnet18 as resnet18
from .zoo import resnet18_imagenet as resnet18_imagenet
from .zoo import resnet20 as resnet20
from .zoo import vgg16 as vgg16
