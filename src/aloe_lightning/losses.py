"""Losses as functions of logits: (N, K) -> (N,), one value per sample, never reduced here."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the negative log-likelihood -log F(x)_y of the labels.

    Args:
        logits: (N, K).
        labels: (N,) class indices.

    Returns:
        (N,), non-negative.
    """
    return F.cross_entropy(logits.float(), labels, reduction="none")


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """Return the cross-entropy L_CE(F(x), U_K) of the softmax to the uniform distribution: logsumexp(z) - mean(z).

    The outlier term of OE, AOE and ALOE (eq. 4) and the in-distribution loss of Algorithm 1.

    Args:
        logits: (N, K).

    Returns:
        (N,), at least log K, which it reaches for a uniform softmax.
    """
    z = logits.float()
    return z.logsumexp(dim=1) - z.mean(dim=1)


def entropy(logits: Tensor) -> Tensor:
    """Return the Shannon entropy -sum_i F_i log F_i of the softmax, in nats: the OOD loss of Algorithm 1.

    Args:
        logits: (N, K).

    Returns:
        (N,), in [0, log K].
    """
    z = logits.float()
    # softmax * log_softmax, not exp(log p) * log p: rounding near saturation changes the sign of some gradients, and
    # this form gives the perturbations of the paper's code.
    return -(z.softmax(dim=1) * z.log_softmax(dim=1)).sum(dim=1)


def kl_divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """Return KL(softmax(reference) || softmax(logits)), the consistency term of TRADES (arXiv:1901.08573).

    Args:
        logits: (N, K).
        reference: (N, K), logits of the clean images; the gradient flows through both arguments.

    Returns:
        (N,), non-negative.
    """
    p, q = reference.float().log_softmax(dim=1), logits.float().log_softmax(dim=1)
    return F.kl_div(q, p, reduction="none", log_target=True).sum(dim=1)


def max_log_confidence(logits: Tensor) -> Tensor:
    """Return max_k log F(x)_k, the outlier term of ACET (Hein et al., arXiv:1812.05720): (N, K) -> (N,), at most 0."""
    return logits.float().log_softmax(dim=1).amax(dim=1)


def rejection_loss(logits: Tensor) -> Tensor:
    """Return -log F(x)_(K+1), the cross-entropy to the rejection class: (N, K + 1) -> (N,), non-negative."""
    return -logits.float().log_softmax(dim=1)[:, -1]
