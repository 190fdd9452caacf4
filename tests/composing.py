"""Configs for tests: composed once, changed as often as wanted."""

from copy import deepcopy
from functools import cache

import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from aloe_lightning.config.resolvers import register_resolvers

register_resolvers()


@cache
def composed(*overrides):
    """The config of Hydra's overrides; composing takes long, so that nothing is composed twice."""
    GlobalHydra.instance().clear()
    with initialize_config_module("aloe_lightning.conf", version_base="1.3"):
        return compose("config", overrides=list(overrides))


def changed(base, *settings):
    """A composed config with `key=value` settings put in afterwards, as an experiment file puts them in."""
    cfg = deepcopy(composed(*base))
    OmegaConf.set_struct(cfg, False)
    for setting in settings:
        key, value = setting.split("=", 1)
        OmegaConf.update(cfg, key, yaml.safe_load(value), force_add=True)
    return cfg
