"""Functions that the YAML files may call."""

from pathlib import Path

from omegaconf import OmegaConf

from aloe_lightning.paper.settings import PUBLISHED_EPSILONS, PUBLISHED_ETA
from aloe_lightning.runtime.devices import gpu_count
from aloe_lightning.runtime.process import command_folder
from aloe_lightning.runtime.processor import fast_precision
from aloe_lightning.storage.fingerprints import fingerprint_of

JOBS_WITHOUT_GPU = 2
"""Jobs of launcher=joblib side by side where there is no GPU."""


def register_resolvers() -> None:
    """Register the functions under the names that the YAML files use, as in `${fingerprint:cell}`."""
    register = OmegaConf.register_new_resolver
    register("fingerprint", lambda subject, *, _root_: fingerprint_of(_root_, subject), replace=True)
    register("published_eta", lambda name: PUBLISHED_ETA.get(name, 0.0014), replace=True)
    register("published", lambda name, epsilon: epsilon in PUBLISHED_EPSILONS.get(name, (epsilon,)), replace=True)
    register("times", lambda first, second: first * second, replace=True)
    register("fast_precision", fast_precision, replace=True)
    register("absolute", lambda path: str(command_folder() / Path(path).expanduser()), replace=True)
    register("jobs_at_once", lambda: gpu_count() or JOBS_WITHOUT_GPU, replace=True)
    register("gpus_per_job", lambda: min(gpu_count(), 1), replace=True)
