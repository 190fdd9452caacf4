"""What detectors have learnt, on disk: plain tensors and plain values, nothing pickled."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from aloe_lightning.atomic import replacing
from aloe_lightning.detectors.detector import Fitted
from aloe_lightning.detectors.mahalanobis import restored
from aloe_lightning.errors import UserError


def write_fitted(folder: Path, fitted: Mapping[str, Fitted]) -> None:
    """Keep `<name>.json` with what each fit has chosen, `<name>.safetensors` with what it has learnt, if anything."""
    for name, detector in fitted.items():
        if not detector.settings and not detector.tensors:
            continue
        folder.mkdir(exist_ok=True)
        with replacing(folder / f"{name}.json") as part:
            part.write_text(json.dumps(dict(detector.settings), indent=2) + "\n")
        if detector.tensors:
            with replacing(folder / f"{name}.safetensors") as part:
                save_file({key: tensor.contiguous() for key, tensor in detector.tensors.items()}, part)


def read_mahalanobis(file: Path, net: nn.Module) -> Fitted:
    """The Mahalanobis detector that `write_fitted` kept, for the net it was fitted on.

    Raises:
        UserError: if the file is missing or damaged, or belongs to another net.
    """
    device = next(net.parameters()).device
    try:
        return restored(net, {key: tensor.to(device) for key, tensor in load_file(file).items()})
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise UserError(f"cannot read the fitted detector {file.absolute()}: {error}") from error
