"""The DenseNet's operations on a CPU: fused dense blocks, compiled C++, and PyTorch's operations that say the same."""
