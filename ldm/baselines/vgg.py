"""VGG19 up to relu5_1, for the perceptual loss. Weights are named as torchvision's: features.N.weight."""
from __future__ import annotations

from ldm.backend import Var, nn
from ldm.errors import UserError
from ldm.files import Name
from ldm.weights import fill, read_state

# The convolutions by their places in torchvision's list; POOLS: the sides are halved before them.
STAGES = ((0,), (2, 5), (7, 10), (12, 14, 16, 19), (21, 23, 25, 28))
WIDTHS = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 16: 256, 19: 512, 21: 512, 23: 512,
          25: 512, 28: 512}
POOLS = (5, 10, 19, 28)
LOSS_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)     # of the five maps in the perceptual loss


class VGG19(nn.Module):
    """Pictures N x 3 x H x W in -1..1, 16 pixels a side or more -> five maps: relu1_1, 2_1, 3_1, 4_1, 5_1.

    Pictures are not brought to ImageNet's mean and deviation, as in the published training.
    """

    def __init__(self) -> None:
        channels = 3
        self.features = nn.Module()
        for place, width in WIDTHS.items():
            setattr(self.features, str(place), nn.Conv(channels, width, 3, padding=1))
            channels = width

    def execute(self, x: Var) -> list[Var]:
        found = []
        for stage in STAGES:
            for place in stage:
                x = nn.max_pool2d(x, 2, 2) if place in POOLS else x
                x = nn.relu(getattr(self.features, str(place))(x))
            found.append(x)
        return found


def open_vgg(path: Name) -> VGG19:
    """A VGG19 with the weights of a file, such as torchvision's vgg19; what the loss does not need is left
    out. UserError if a tensor is missing or has another shape."""
    network = VGG19()
    wanted = {name: tuple(p.shape) for name, p in network.state_dict().items()}
    state = {name: array for name, array in read_state(path)[0].items() if name in wanted}
    if not state:
        raise UserError(path, "holds no weights of VGG19", "give torchvision's vgg19 file")
    fill(network, state, path)
    for p in network.parameters():
        p.stop_grad()
    return network
