"""Attack a torchvision ResNet-18 on folders of photos: python photos.py mine.pt photos/test photos/fabric."""

import sys

import torch
from torchvision.models import resnet18

from aloe_lightning.robustness import evaluate

net = resnet18(num_classes=3)
net.load_state_dict(torch.load(sys.argv[1], weights_only=True))
imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
result = evaluate(net, sys.argv[2], {"fabric": sys.argv[3]}, size=224, preset="paper", **imagenet)
print(result.table().T)
print(result.report("report"))
