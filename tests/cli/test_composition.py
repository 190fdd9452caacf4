"""Fast composition gives the configs of Hydra's own."""

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from aloe_lightning.cli.composition import Composer
from aloe_lightning.config.resolvers import register_resolvers

register_resolvers()
JOBS = [
    ["+sweep=paper", "+experiment=gtsrb", "objective=aloe", "epsilon=2"],
    ["+sweep=paper", "+experiment=gtsrb", "objective=aloe", "epsilon=3", "hydra.job.chdir=true"],
    ["objective=oe", "~ood.clouds", "+ood.extra={_target_: x.Y}", "seed=3"],
    ["net=densenet", "+experiment=cifar10_aloe", "ood=[textures,svhn]", "detector.odin.temperature=10"],
    ["detector=[msp,energy]", "data.num_train=8", "++study=other"],
]


@pytest.fixture
def hydra():
    GlobalHydra.instance().clear()
    with initialize_config_module("aloe_lightning.conf", version_base="1.3"):
        yield


def test_configs_equal_hydras_in_any_order_and_more_than_once(hydra):
    expected = [OmegaConf.to_container(compose("config", job), resolve=True) for job in JOBS]
    composer = Composer("config")
    for job, config in [*zip(JOBS, expected, strict=True), *zip(JOBS, expected, strict=True)]:
        assert OmegaConf.to_container(composer.compose(job), resolve=True) == config


@pytest.mark.parametrize("word", ["epsilo=1", "objective=alo", "+optim.lr=1", "~nothing"])
def test_what_hydra_refuses_is_refused(hydra, word):
    with pytest.raises(ConfigCompositionException):
        compose("config", [word])
    with pytest.raises(ConfigCompositionException):
        Composer("config").compose([word])
