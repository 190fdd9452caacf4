"""Nets of torchvision and timm, with the normalisation and image size that the library states for them."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from aloe_lightning.errors import UserError
from aloe_lightning.nets.classifier import Classifier, Normalize
from aloe_lightning.nets.features import WithFeatures
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import Channels, PositiveInt, Text

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """Facts about the images of a library's net.

    Attributes:
        mean: channel means in [0, 1].
        std: channel standard deviations.
        size: height and width.
        source: origin of these facts, for the log.
    """

    mean: Sequence[float]
    std: Sequence[float]
    size: int
    source: str


class LibraryNet(Classifier):
    """A net of a library, with its normalisation inside: images (N, 3, H, W) in [0, 1] to logits (N, K).

    Args:
        net: normalised images to logits.
        preprocessing: the library's normalisation and size.
        mean: channel means instead of the library's.
        std: channel standard deviations instead of the library's.
        size: height and width that the weights were trained at, instead of the library's.
        layers: layers of `features`; see `WithFeatures`.
    """

    def __init__(
        self,
        net: nn.Module,
        preprocessing: Preprocessing,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        size: int | None,
        layers: Sequence[str],
    ) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise UserError("net.mean and net.std belong together: give both or neither")
        self.image_size = size or preprocessing.size
        self.preprocessing_source = "given" if mean is not None else preprocessing.source
        self.normalize = Normalize(list(mean or preprocessing.mean), list(std or preprocessing.std))
        self.net = net
        self._features = [WithFeatures(net, layers)]  # a list: its parameters are the net's

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K)."""
        logits: Tensor = self.net(self.normalize(images))
        return logits

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the named layers, or the last pooled features, each (N, C_l)."""
        return self._features[0].features(self.normalize(images))

    @abstractmethod
    def __str__(self) -> str:
        """Return library and name."""


@checked
class Torchvision(LibraryNet):
    """A classifier of `torchvision.models`.

    Args:
        num_classes: K; null for that of the pretrained weights, 1,000 without.
        model: its name, such as resnet18.
        weights: name of pretrained weights to download, such as DEFAULT; null for none, as for `checkpoint=`.
        mean: channel means in [0, 1]; null for those of the library's weights.
        std: channel standard deviations in [0, 1]; null for those of the library's weights.
        size: height and width that the weights were trained at; null for the library's.
        layers: layers that Mahalanobis reads, by torchvision's node names; none for the last pooled features.
    """

    def __init__(
        self,
        num_classes: PositiveInt | None = None,
        model: Text = "resnet18",
        weights: Text | None = None,
        mean: Channels | None = None,
        std: Channels | None = None,
        size: PositiveInt | None = None,
        layers: Sequence[str] = (),
    ) -> None:
        from torchvision import models

        known = models.list_models(module=models)
        if model not in known:
            raise UserError(f"torchvision has no classifier {model!r}; it has {', '.join(known[:8])}, ...")
        self.model = model
        options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
        if model in ("googlenet", "inception_v3") and weights is None:
            options |= {"aux_logits": False, "init_weights": True}
        try:
            net = models.get_model(model, weights=weights, **options)
        except OSError as error:  # of urllib
            raise UserError(
                f"cannot download the weights {weights} of torchvision's {model} ({error}): download them where there "
                "is a network, and give the file as checkpoint="
            ) from error
        except (ValueError, KeyError) as error:
            advice = (
                f"; {weights} has the classes of ImageNet, the data have {num_classes}: give data.num_classes=1000 "
                "(then the clean accuracy is not known), or weights of these classes as checkpoint="
            )
            advice = "" if weights is None or num_classes is None else advice
            raise UserError(f"torchvision's {model}: {str(error).splitlines()[0].rstrip('.')}{advice}") from error
        super().__init__(net, _torchvision_preprocessing(model, weights), mean, std, size, layers)

    def __str__(self) -> str:
        """Return library and name."""
        return f"torchvision {self.model}"


@checked
class Timm(LibraryNet):
    """A classifier of timm (https://timm.fast.ai), the extra `[timm]`.

    Args:
        num_classes: K; null for that of the library's configuration.
        model: its name, such as resnet18.
        pretrained: download the library's weights.
        mean: channel means in [0, 1]; null for those of the library's data config.
        std: channel standard deviations in [0, 1]; null for those of the library's data config.
        size: height and width that the weights were trained at; null for the library's.
        layers: layers that Mahalanobis reads, by torchvision's node names; none for the last pooled features.
    """

    def __init__(
        self,
        num_classes: PositiveInt | None = None,
        model: Text = "resnet18",
        pretrained: bool = False,
        mean: Channels | None = None,
        std: Channels | None = None,
        size: PositiveInt | None = None,
        layers: Sequence[str] = (),
    ) -> None:
        try:
            import timm
        except ImportError as error:
            raise UserError("net=timm requires timm: pip install 'aloe-lightning[timm]'") from error
        if not timm.is_model(model.partition(".")[0]):
            similar = timm.list_models(f"*{model[:6]}*")[:6]
            raise UserError(f"timm has no model {model!r}" + (f"; it has {', '.join(similar)}" if similar else ""))
        self.model = model
        options = {} if num_classes is None else {"num_classes": num_classes}
        try:
            net = timm.create_model(model, pretrained=pretrained, **options)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"timm's {model}: {str(error).splitlines()[0]}") from error
        config = timm.data.resolve_model_data_config(net)
        if config["input_size"][0] != 3:
            raise UserError(f"timm's {model} takes {config['input_size'][0]} channels; images have three")
        preprocessing = Preprocessing(
            config["mean"], config["std"], config["input_size"][1], f"timm's data config of {model}"
        )
        super().__init__(net, preprocessing, mean, std, size, layers)

    def __str__(self) -> str:
        """Return library and name."""
        return f"timm {self.model}"


def _torchvision_preprocessing(model: str, weights: str | None) -> Preprocessing:
    from torchvision.models import get_model_weights

    available = get_model_weights(model)
    chosen = available[weights] if weights is not None else getattr(available, "DEFAULT", None)
    if chosen is None:
        return Preprocessing(IMAGENET_MEAN, IMAGENET_STD, 224, "ImageNet's usual values: torchvision states none")
    transform = chosen.transforms()
    size = int(transform.crop_size[0])
    return Preprocessing(transform.mean, transform.std, size, f"torchvision's transforms of {chosen}")
