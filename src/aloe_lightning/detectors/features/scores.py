"""Common parts of detectors that read the last pooled features: training features, and the attack through the score."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from aloe_lightning.attacks import LossFn, Membership, frozen_eval
from aloe_lightning.detectors.detector import FitData, Fitted, device_of
from aloe_lightning.detectors.forward_pass import ForwardPass
from aloe_lightning.errors import UserError
from aloe_lightning.nets import last_layer
from aloe_lightning.runtime.progress import track
from aloe_lightning.runtime.seeding import generator


def attacked_through_score(
    net: nn.Module,
    score: Callable[[Tensor], Tensor],
    settings: Mapping[str, float | str],
    tensors: Mapping[str, Tensor],
) -> Fitted:
    """Bind a score of images, (N, 3, H, W) -> (N,), whose attack lowers it on ID and raises it on OOD images."""

    def loss(membership: Membership) -> LossFn:
        sign = -1 if membership == "id" else 1
        return lambda images: sign * score(images)

    def score_batch(batch: ForwardPass) -> Tensor:
        return score(batch.images)

    return Fitted(net=net, score=score_batch, loss=loss, settings=settings, tensors=tensors)


def training_features(
    net: nn.Module, data: FitData | None, detector: str, count: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return last pooled features float64 (N, C) and logits float64 (N, K) of training images, on the CPU.

    Args:
        net: images -> logits.
        data: the training images.
        detector: name for messages.
        count: number of images, drawn by the seed; None for all.

    Raises:
        UserError: if there are no training images, or the net has no last linear layer.
    """
    if data is None:
        raise UserError(f"{detector} requires training images: give train=")
    images = data.inliers()
    order = torch.randperm(len(images), generator=generator(data.seed, detector))[:count].sort().values
    device = device_of(net)

    def passes() -> Iterator[tuple[Tensor, Tensor]]:
        for part in torch.split(order, data.batch_size):
            result = last_layer(net, images.take(part).to(device).float().div_(255))
            yield result.features.double().cpu(), result.logits.double().cpu()

    tracked = track(passes(), len(order), f"fitting {detector}", step=data.batch_size)
    with frozen_eval(net), torch.no_grad():
        features, logits = zip(*tracked, strict=True)
    return torch.cat(features), torch.cat(logits)
