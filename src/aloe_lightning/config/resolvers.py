"""Functions that the YAML files may call."""

from omegaconf import OmegaConf

from aloe_lightning.paper.settings import PUBLISHED_EPSILONS, PUBLISHED_ETA
from aloe_lightning.runtime.processor import fast_precision
from aloe_lightning.storage.fingerprints import fingerprint_of


def register_resolvers() -> None:
    """Register `${fingerprint:SUBJECT}`, `${published_eta:DATA}`, `${published:DATA,EPSILON}`, `${fast_precision:}`."""
    register = OmegaConf.register_new_resolver
    register("fingerprint", lambda subject, *, _root_: fingerprint_of(_root_, subject), replace=True)
    register("published_eta", lambda name: PUBLISHED_ETA.get(name, 0.0014), replace=True)
    register("published", lambda name, epsilon: epsilon in PUBLISHED_EPSILONS.get(name, (epsilon,)), replace=True)
    register("fast_precision", fast_precision, replace=True)
