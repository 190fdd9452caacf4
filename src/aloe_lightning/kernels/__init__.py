"""CPU kernels of the DenseNet: dense blocks as single operations in compiled C++, with PyTorch equivalents."""

from aloe_lightning.kernels.compiler import has_kernels
from aloe_lightning.kernels.dense_block import frozen_dense_block, fused_dense_block

__all__ = ["frozen_dense_block", "fused_dense_block", "has_kernels"]
