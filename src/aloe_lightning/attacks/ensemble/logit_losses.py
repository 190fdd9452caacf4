"""Functions of logits, (N, K) -> (N,), that an attack on confidence raises or lowers; none saturates."""

import torch
from torch import Tensor


def log_odds(logits: Tensor, temperature: float = 1.0, classes: Tensor | None = None) -> Tensor:
    """Return log p - log(1 - p) of a softmax probability p: z_c / T - logsumexp of the others, in float64.

    The largest probability saturates at 1 and its gradient vanishes; its log-odds do neither.

    Args:
        logits: (N, K), K at least 2.
        temperature: T, above 0.
        classes: class c of each image, int64 (N,); None for the class of the largest logit.

    Returns:
        (N,); without classes at least -log(K - 1), and strictly increasing in the largest probability.

    Raises:
        ValueError: if there are fewer than two classes, or the temperature is not positive.
    """
    if logits.shape[1] < 2 or temperature <= 0:
        raise ValueError(f"log-odds require two classes and T > 0; got {logits.shape[1]} classes, T = {temperature}")
    z = logits.double() / temperature
    chosen = (z.argmax(dim=1) if classes is None else classes).unsqueeze(1)
    others = z.scatter(1, chosen, -torch.inf)
    return z.gather(1, chosen).squeeze(1) - others.logsumexp(dim=1)


def margin(logits: Tensor) -> Tensor:
    """Return the difference between the largest and the second largest logit: (N,) in float64, not negative."""
    first, second = logits.double().topk(2, dim=1).values.unbind(1)
    return first - second


def centred(logits: Tensor) -> Tensor:
    """Return the largest logit above the mean of all: (N,) in float64.

    Up to a factor, the log-odds of the softmax at a temperature far above the logits, such as ODIN's 1,000.
    """
    z = logits.double()
    return z.amax(dim=1) - z.mean(dim=1)
