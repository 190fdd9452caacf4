"""What detectors have learnt, on disk: plain tensors and plain values, nothing pickled; fitted once for each net."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aloe_lightning.detectors.detector import FitData, Fitted, Restorable
from aloe_lightning.errors import UserError
from aloe_lightning.storage.files import atomic_write


def write_fitted(folder: Path, name: str, fitted: Fitted) -> None:
    """Keep `<name>.safetensors` with what the fit has learnt, if anything, and `<name>.json` with what it chose."""
    folder.mkdir(parents=True, exist_ok=True)
    if fitted.tensors:
        with atomic_write(folder / f"{name}.safetensors") as part:
            save_file({key: tensor.contiguous() for key, tensor in fitted.tensors.items()}, part)
    with atomic_write(folder / f"{name}.json") as part:
        part.write_text(json.dumps(dict(fitted.settings), indent=2) + "\n")


def read_fitted(folder: Path, name: str, detector: Restorable, net: nn.Module) -> Fitted:
    """The fit of a detector that `write_fitted` kept, for the net it was made on.

    Raises:
        UserError: if a file is missing or damaged, or belongs to another net.
    """
    file = folder / f"{name}.safetensors"
    try:
        settings: dict[str, float | str] = json.loads((folder / f"{name}.json").read_text())
        tensors: Mapping[str, Tensor] = load_file(file) if file.is_file() else {}
        return detector.restored(net, settings, tensors)
    except (OSError, ValueError, SafetensorError, KeyError, RuntimeError) as error:
        raise UserError(f"cannot read the fitted detector {name} in {folder.absolute()}: {error}") from error


@dataclass(frozen=True)
class KeptDetector:
    """A detector whose fit is kept, and taken from there the next time.

    Attributes:
        detector: the detector.
        folder: of the net's fits.
        fit_name: what tells this fit from others of the net.
        afresh: fit again, whatever is kept.
        writes: False in the further processes of a distributed evaluation.
    """

    detector: Restorable
    folder: Path
    fit_name: str
    afresh: bool = False
    writes: bool = True

    @property
    def name(self) -> str:
        """The detector's."""
        return self.detector.name

    @property
    def learns(self) -> bool:
        """Whether data are wanted."""
        return self.detector.learns and not self.kept

    @property
    def kept(self) -> bool:
        """Whether the fit is there."""
        return not self.afresh and (self.folder / f"{self.fit_name}.json").is_file()

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """The kept fit, or a new one."""
        if self.kept:
            return read_fitted(self.folder, self.fit_name, self.detector, net)
        fitted = self.detector.fit(net, data)
        if self.writes:
            write_fitted(self.folder, self.fit_name, fitted)
        return fitted
