"""A net in a file of its own: TorchScript or torch.export."""

import json
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn

from aloe_lightning.errors import UserError
from aloe_lightning.nets.classifier import Normalize
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import Channels, PositiveInt, Text
from aloe_lightning.storage.files import zip_damage


@checked
class SavedNet(nn.Module):
    """A net of a TorchScript (`torch.jit.save`) or torch.export (`torch.export.save`) file.

    Such a file is a program: load only those of a source that you trust. Pickled objects in it are refused.

    Args:
        path: the file.
        mean: channel means in [0, 1] for the normalisation before the net; null if it takes pixels in [0, 1].
        std: channel standard deviations; null likewise.
        size: height and width of the images that it was made for; null if it takes any.

    Raises:
        UserError: if the file is missing, or of another kind.
    """

    def __init__(
        self,
        path: Text,
        mean: Channels | None = None,
        std: Channels | None = None,
        size: PositiveInt | None = None,
    ) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise UserError("net.mean and net.std belong together: give both or neither")
        self.image_size = size
        self.preprocessing_source = "given" if mean is not None else "none"
        self.normalize = nn.Identity() if mean is None or std is None else Normalize(list(mean), list(std))
        self.net = load_program(path)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, 3, H, W) in [0, 1]."""
        logits: Tensor = self.net(self.normalize(images))
        return logits


class ExportedNet(nn.Module):
    """The module of an ExportedProgram, whose mode was fixed at its export: `eval()` does nothing."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self.program = program.module()

    def train(self, mode: bool = True) -> "ExportedNet":
        """Remember the mode; an exported module does not have several."""
        self.training = mode
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the output of the program."""
        try:
            output: Tensor = self.program(images)
        except AssertionError as error:
            raise UserError(
                f"the exported net does not take a batch {tuple(images.shape)} ({str(error).splitlines()[0]}): export "
                "it with dynamic_shapes for the batch, or choose batch_size and size as it was exported"
            ) from error
        return output


def load_program(path: str | Path) -> nn.Module:
    """Load a TorchScript or torch.export file on the CPU, in eval mode.

    Raises:
        UserError: if the file is missing, damaged, holds pickled objects, or is neither.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"no net at {file.absolute()}: correct the path")
    try:
        if damage := zip_damage(file):  # torch would run it all the same
            raise ValueError(damage)
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            is_script = any("/code/" in name for name in names)
            is_exported = any(name.endswith("archive_format") for name in names)
            if is_exported:
                _refuse_pickles(archive, file)
        if is_script:
            script: nn.Module = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
            return script.eval().float()
        if is_exported:
            return ExportedNet(torch.export.load(file))
    except UserError:
        raise
    except Exception as error:  # torch raises whatever the damage suggests
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot read the net {file.absolute()}: {reason}") from error
    raise UserError(
        f"{file.absolute()} is neither TorchScript nor torch.export: for a state dict choose net=torchvision, net=timm "
        "or net._target_=mine.Net, and checkpoint="
    )


def _refuse_pickles(archive: zipfile.ZipFile, file: Path) -> None:
    """Refuse an exported program in which loading would unpickle anything but tensors."""
    for name in archive.namelist():
        if name.endswith("_config.json"):
            entries = json.loads(archive.read(name)).get("config", {})
            if any(entry.get("use_pickle") for entry in entries.values()):
                raise UserError(f"{file.absolute()} holds pickled objects ({name}), which are never loaded")
        elif name.endswith(".pt"):
            try:
                torch.load(BytesIO(archive.read(name)), weights_only=True)
            except Exception as error:  # an unpickler raises anything
                raise UserError(f"{file.absolute()} holds pickled objects ({name}), which are never loaded") from error


def sizes_of(net: nn.Module) -> Sequence[int]:
    """Return the height and width that a net states for its images, `image_size` or timm's; empty if it states none."""
    for module in net.modules():
        size = getattr(module, "image_size", None)
        if isinstance(size, int):
            return (size, size)
        config = getattr(module, "pretrained_cfg", None)
        if isinstance(config, dict) and config.get("fixed_input_size") and "input_size" in config:
            return tuple(config["input_size"][1:])
    return ()
