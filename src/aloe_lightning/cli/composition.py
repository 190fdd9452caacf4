"""Fast composition of the many configs of a sweep: the same configs as Hydra's `compose`, ten times faster.

Hydra reads and parses some 40 YAML files anew for each config. Here a file is read once, each combination of groups is
merged once, and values such as `epsilon=2` are set in a copy, as Hydra itself sets them after merging.
"""

import copy
import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf import base as omegaconf_base


class _Files(CachingConfigRepository):
    """The config files, each read once; what `load_config` returns must not be changed."""

    def __init__(self, delegate: IConfigRepository) -> None:
        super().__init__(delegate)
        self.groups: dict[str, bool] = {}

    def group_exists(self, config_path: str) -> bool:
        """Return whether there is such a group."""
        if config_path not in self.groups:
            self.groups[config_path] = super().group_exists(config_path)
        return self.groups[config_path]

    def copies(self) -> "_Copies":
        """Return a view whose files may be merged."""
        return _Copies(self)


class _Copies(CachingConfigRepository):
    def __init__(self, files: _Files) -> None:
        self.delegate, self.cache = files, {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        result = copy.copy(self.delegate.load_config(config_path=config_path))
        if result is not None:
            result.config = copy.deepcopy(result.config)
        return result


class Composer:
    """Composes configs of the initialized Hydra, for planning: without the node `hydra`."""

    def __init__(self, config_name: str, overrides: Iterable[str] = ()) -> None:
        """Take the search path from `hydra.searchpath=` among the overrides."""
        loader = GlobalHydra.instance().config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        self.config_name, self.loader = config_name, loader
        self.files = _Files(loader.repository)
        self.parser = OverridesParser.create()
        loader._process_config_searchpath(config_name, self.parser.parse_overrides(list(overrides)), self.files)
        self.parsed: dict[str, Override] = {}
        self.merged: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, job: Iterable[str]) -> DictConfig:
        """Return the config of a job's overrides.

        Raises:
            HydraException: as Hydra's `compose` does.
        """
        groups, values = self._split(job)
        config = copy.deepcopy(self._merged(groups))
        OmegaConf.set_struct(config, True)
        self.loader._apply_overrides_to_config([o for o in values if not o.is_hydra_override()], config)
        return config

    def sweep_params(self, overrides: Iterable[str]) -> dict[str, str]:
        """Return `hydra.sweeper.params` of overrides that are no sweep themselves."""
        groups, values = self._split(overrides)
        config = self._merge(groups)
        self.loader._apply_overrides_to_config(
            [o for o in values if o.key_or_group.startswith("hydra.sweeper.params")], config
        )
        params = OmegaConf.select(config, "hydra.sweeper.params")
        return {str(key): str(value) for key, value in (params or {}).items()}

    def _split(self, words: Iterable[str]) -> tuple[list[Override], list[Override]]:
        """Return the overrides that choose groups, and those that set values, as Hydra tells them apart."""
        groups, values = list[Override](), list[Override]()
        for override in map(self._parse, words):
            is_group = self.files.group_exists(override.key_or_group) and not isinstance(override.value(), dict)
            (groups if is_group else values).append(override)
        return groups, values

    def _merged(self, groups: list[Override]) -> DictConfig:
        key = tuple(str(override.input_line) for override in groups)
        if key not in self.merged:
            self.merged[key] = self._merge(groups)
            self.merged[key].pop("hydra", None)
        return self.merged[key]

    def _parse(self, word: str) -> Override:
        if word not in self.parsed:
            self.parsed[word] = self.parser.parse_override(word)
        return self.parsed[word]

    def _merge(self, groups: list[Override]) -> DictConfig:
        defaults = create_defaults_list(
            repo=self.files,
            config_name=self.config_name,
            overrides_list=groups,
            prepend_hydra=True,
            skip_missing=False,
        ).defaults
        # The settings of Hydra itself are half of all files, and no part of a cell.
        own = [default for default in defaults if not str(default.config_path).startswith("hydra/")]
        return self.loader._compose_config_from_defaults_list(defaults=own, repo=self.files.copies())


@contextmanager
def quick_hydra() -> Iterator[None]:
    """Spare Hydra and OmegaConf what takes two thirds of their time, while the block runs.

    That is: to parse an interpolation again that was parsed before, to collect which options were chosen although no
    defaults list asks for them, and to search for garbage among a million small nodes.
    """

    def choices(overrides: Any, defaults: list[Any], self_added: bool) -> DictConfig | None:
        asked = any(default.is_interpolation() for default in defaults)
        return originals[0](overrides, defaults, self_added) if asked else None

    places = ((defaults_list, "_create_interpolation_map"), (omegaconf_base, "parse"))
    originals = [getattr(module, name) for module, name in places]
    enabled = gc.isenabled()
    gc.disable()
    try:
        for (module, name), function in zip(places, (choices, cache(originals[1])), strict=True):
            setattr(module, name, function)
        yield
    finally:
        for (module, name), function in zip(places, originals, strict=True):
            setattr(module, name, function)
        if enabled:
            gc.enable()
