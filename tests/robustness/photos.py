"""Folders of pictures for tests: three classes that differ in colour, and fabric."""

import numpy as np
from PIL import Image


def write_photos(root, count=4, size=(80, 96)):
    """Write root/test and root/train with sub-folders apple, leaf, sea, and root/fabric; pictures of two sizes."""
    rng = np.random.default_rng(0)
    colours = {"apple": (200, 40, 40), "leaf": (40, 180, 40), "sea": (40, 60, 200)}
    for part, number in (("test", count), ("train", count + 2)):
        for name, colour in colours.items():
            for k in range(number):
                noise = rng.normal(0, 25, (*size, 3))
                save(root / part / name / f"{k}.jpg", np.array(colour) + noise)
    for k in range(5):
        stripes = 128 + 100 * np.sign(np.sin(np.arange(100) * (0.3 + 0.1 * k)))
        save(root / "fabric" / f"{k}.png", np.broadcast_to(stripes[:, None, None], (100, 90, 3)))
    return root


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
