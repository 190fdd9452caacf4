"""The images that are given to an evaluation, in whatever form: checked, and read batch by batch."""

from aloe_lightning.robustness.images.sources import Batch, Data, FolderImages, Images, images_of

__all__ = ["Batch", "Data", "FolderImages", "Images", "images_of"]
