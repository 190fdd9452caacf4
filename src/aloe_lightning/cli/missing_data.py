"""The named data sets that a command requires and that do not exist, all in one message before anything is computed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from aloe_lightning.cli.dry_run import planned
from aloe_lightning.data.catalogue import cards
from aloe_lightning.errors import UserError
from aloe_lightning.signatures.description import describe
from aloe_lightning.storage.fingerprints import uses


def require_data(words: Sequence[str]) -> None:
    """Check that the named data sets of all cells of a command exist, except for cells that are done.

    A command that cannot be planned, because of a mistake or a sweeper that chooses its cells later, is not checked.

    Raises:
        UserError: naming every missing set, once, with the command to obtain it.
    """
    GlobalHydra.instance().clear()
    try:
        cells = planned(words)
    except (UserError, HydraException, OmegaConfBaseException):
        return
    finally:
        GlobalHydra.instance().clear()
    absent = dict.fromkeys(pair for cell in cells for pair in absent_sets([cell.config]) if cell.state != "done")
    if len(absent) == 1:
        ((name, root),) = absent
        raise UserError(f"{cards()[name].absence(root)}, or set paths.data")
    if absent:
        raise UserError(f"{len(absent)} data sets are missing{_listed(list(absent))}, or set paths.data")


def _listed(absent: Sequence[tuple[str, Path]]) -> str:
    """Return titles, places and commands of several missing sets."""
    parts = []
    for root in dict.fromkeys(root for _, root in absent):
        missing = [cards()[name] for name, place in absent if place == root]
        titles = ", ".join(f"{card.title} ({card.layouts[0][0]})" for card in missing)
        downloads = [card for card in missing if card.archives]
        remedies = [f"{card.title}: {card.how_to_obtain(root)}" for card in missing if not card.archives]
        if downloads:
            command = downloads[0].command(root, *(card.name for card in downloads[1:]))
            remedies.insert(0, f"{command} downloads {'them' if len(downloads) > 1 else 'it'}")
        parts.append(f" in {root}: {titles}: {'; '.join(remedies)}")
    return "; and".join(parts)


def absent_sets(configs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Path]]:
    """Yield name and data root of each named set that validated configs require and that is not complete there."""
    for config in configs:
        root = Path(config["paths"]["data"]).expanduser().absolute()
        nodes = [config["data"], *config["ood"].values()]
        if uses(config["objective"])[0] and config["checkpoint"] is None:
            nodes.insert(1, config["outliers"])
        for node in nodes:
            name = node.get("dataset") or describe(str(node["_target_"])).constants.get("dataset")
            place = Path(node["root"]).expanduser().absolute() if isinstance(node.get("root"), str) else root
            if name in cards() and cards()[name].absence(place):
                yield str(name), place
