"""Fitted detectors on disk, as tensors and JSON values without pickle; each is fitted once per net."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from aloe_lightning.detectors.detector import CacheableDetector, Detector, FitData, Fitted
from aloe_lightning.errors import UserError
from aloe_lightning.storage.files import atomic_write, parse_json


def write_fitted(folder: Path, name: str, fitted: Fitted) -> None:
    """Write the tensors of a fit, if any, to `<name>.safetensors` and its settings to `<name>.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    if fitted.tensors:
        with atomic_write(folder / f"{name}.safetensors") as part:
            save_file({key: tensor.contiguous() for key, tensor in fitted.tensors.items()}, part)
    with atomic_write(folder / f"{name}.json") as part:
        part.write_text(json.dumps(dict(fitted.settings), indent=2) + "\n")


def read_fitted(folder: Path, name: str, detector: CacheableDetector, net: nn.Module) -> Fitted:
    """Read the fit that `write_fitted` wrote; UserError if a file is missing, damaged, or belongs to another net."""
    file = folder / f"{name}.safetensors"
    try:
        settings = parse_json((folder / f"{name}.json").read_bytes())
        return detector.from_state(net, settings, load_file(file) if file.is_file() else {})
    except Exception as error:  # damaged values raise nearly anything
        place = folder.absolute() / name
        raise UserError(f"cannot read the fitted detector {place} ({error}): remove it to fit it again") from error


@dataclass(frozen=True)
class CachedDetector(Detector):
    """A detector whose fit is stored and reused.

    Attributes:
        detector: the detector.
        folder: folder of the net's fits.
        fit_name: file name of the fit, unique within the folder.
        refit: fit again even if a fit is stored.
        writes: False in all processes but the first of a distributed evaluation.
    """

    detector: CacheableDetector
    folder: Path
    fit_name: str
    refit: bool = False
    writes: bool = True

    @property
    def stored(self) -> bool:
        """True if a stored fit is used."""
        return not self.refit and (self.folder / f"{self.fit_name}.json").is_file()

    @property
    def requires_fit(self) -> bool:
        """True if the detector requires it and no stored fit is used."""
        return self.detector.requires_fit and not self.stored

    @property
    def requires_outliers(self) -> bool:
        """True if the detector requires them and no stored fit is used."""
        return self.detector.requires_outliers and not self.stored

    @property
    def title(self) -> str:
        """The detector's name in tables."""
        return self.detector.title

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Read the stored fit, or fit and store the result."""
        if self.stored:
            return read_fitted(self.folder, self.fit_name, self.detector, net)
        fitted = self.detector.fit(net, data)
        if self.writes:
            write_fitted(self.folder, self.fit_name, fitted)
        return fitted
