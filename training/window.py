"""From degrees to what a network sees: inside the graph, so that training and serving cannot differ."""

import torch
from torch import Tensor, nn

WINDOW_CHANNELS = 3

_MIDDLE_CELSIUS = 28.0
_HALF_SPAN_CELSIUS = 12.0
"""16 to 40 °C: rooms, skin and fur of rodents."""
_FINE_HALF_SPAN_CELSIUS = 4.0
"""About the picture's mean: there lie floors, reflections and cold tails."""
_LEAST_SPREAD_CELSIUS = 0.5
"""An empty picture is not enlarged until its noise looks like something."""
_SPREADS = 4.0


class Window(nn.Module):
    """Three views of the same degrees, each within -1 and 1.

    An absolute one (16 to 40 °C), because skin has a temperature; a fine one about the picture's mean, because a cold
    tail differs from the floor by tenths and eight bits divide a view into 256 steps (0.03 °C here); and one in units
    of the picture's own spread, because a wrong emissivity, another room or the colours of an app shift and stretch
    degrees. Mean and spread are sums: a median would have to sort, which takes longer than the network. NaN reads as
    the picture's mean, and a picture of nothing but NaN as the middle of the window.
    """

    def forward(self, celsius: Tensor) -> Tensor:
        """Views (N, 3, H, W) float32 of degrees (N, 1, H, W), NaN allowed."""
        unknown = torch.isnan(celsius)
        above = torch.where(unknown, torch.zeros_like(celsius), celsius - _MIDDLE_CELSIUS)
        pixels = (celsius.shape[2] * celsius.shape[3] - unknown.to(celsius.dtype).sum((2, 3), keepdim=True)).clamp(1.0)
        mean = above.sum((2, 3), keepdim=True) / pixels
        departure = torch.where(unknown, torch.zeros_like(celsius), above - mean)
        spread = (departure.square().sum((2, 3), keepdim=True) / pixels).sqrt().clamp(_LEAST_SPREAD_CELSIUS)
        views = (
            (departure + mean) / _HALF_SPAN_CELSIUS,
            departure / _FINE_HALF_SPAN_CELSIUS,
            departure / (_SPREADS * spread),
        )
        return torch.cat(views, dim=1).clamp(-1.0, 1.0)
