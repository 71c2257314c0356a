"""Which deployed form a network has; one of the user's own is traced as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from aasist_deploy.export.inference_aasist import InferenceAasist
from aasist_deploy.export.inference_layers import InferenceNetwork, TopK
from aasist_deploy.export.inference_rawgat_st import InferenceRawGatSt
from aasist_deploy.export.inference_rawnet2 import InferenceRawNet2
from aasist_deploy.models import Aasist, RawGatSt, RawNet2

if TYPE_CHECKING:
    from aasist_deploy.models import Network

_FORMS: Final[dict[type[Network], Any]] = {
    Aasist: InferenceAasist,
    RawGatSt: InferenceRawGatSt,
    RawNet2: InferenceRawNet2,
}
_N_WAVES: Final = 2  # as in the trial that a network of the user's own is given when it is made


class AsItIs(InferenceNetwork):
    """A network without a deployed form of its own: the same operations in another order.

    Args:
        network: The trained network, in evaluation mode.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        with torch.no_grad():
            embedding, output = network(torch.zeros(_N_WAVES, network.n_samples))
        self.has_embedding = embedding is not output  # where it gives none, it is the output

    def forward(self, wave: Tensor) -> tuple[Tensor, ...]:
        """(B, N) -> score (B,), output (B, 2), and the embedding if the network gives one."""
        embedding, output = self.network(wave)
        results = (output[:, 1], output)
        return (*results, embedding) if self.has_embedding else results


def deployed_form(network: Network, topk: TopK) -> InferenceNetwork:
    """The network that is traced in place of the trained one.

    Args:
        network: The trained network.
        topk: Which exact form of graph pooling to write, where there is any.
    """
    form = _FORMS.get(type(network))
    made: InferenceNetwork = AsItIs(network) if form is None else form(network, topk)
    return made.eval()
