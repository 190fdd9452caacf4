// The gradient of a convolution's weight.
#pragma once

#include "convolution.h"

namespace aloe_lightning {

// Pack a padded block as a right matrix: panels of channels; in a panel the block's pixels by elements.
template <typename T>
const Element<T>* pack_right(const T* from, int64_t pixels, int64_t channels) {
  int64_t stride = padded_channels<T>(channels), panel_width = PANEL_VECTORS * LANES<T>;
  int64_t terms = round_up(pixels, PACK<T>) / PACK<T>;
  auto* packed = scratch<RIGHT, Element<T>>(terms * round_up(channels, panel_width));
  auto* to = packed;
  for (int64_t panel = 0; panel < channels; panel += panel_width)
    for (int64_t term = 0; term < terms; ++term, to += panel_width)
      for (int64_t c = 0; c < std::min(panel_width, channels - panel); c += LANES<T>) {
        const T* first = from + term * PACK<T> * stride + panel + c;
        auto elements = interleave(first, first + stride);
        std::memcpy(to + c, &elements, sizeof elements);
      }
  return packed;
}

// Pack a padded block as left matrices: row t of matrix p holds, for each channel, the element of the pixels from
// t * PACK + p on. Row -1 exists, too.
template <typename T>
std::vector<const Element<T>*> pack_left(const T* from, int64_t pixels, int64_t channels, int64_t matrices) {
  int64_t stride = padded_channels<T>(channels), width = round_up(channels, LANES<T>);
  int64_t terms = round_up(pixels, PACK<T>) / PACK<T>;
  auto* memory = scratch<LEFT, Element<T>>(matrices * (terms + 1) * width);
  std::vector<const Element<T>*> packed;
  for (int64_t p = 0; p < matrices; ++p) {
    packed.push_back(memory + width);
    std::memset(memory, 0, sizeof(Element<T>) * width);  // the padding is 0
    memory += width;
    for (int64_t term = 0; term < terms; ++term, memory += width)
      for (int64_t c = 0; c < channels; c += LANES<T>) {
        const T* first = from + (term * PACK<T> + p) * stride + c;
        auto elements = interleave(first, first + stride);
        std::memcpy(memory + c, &elements, sizeof elements);
      }
  }
  return packed;
}

// Sums over blocks of a weight's gradient: (kernel lines x kernel columns, panels of inputs, outputs, inputs of a panel).
template <typename T>
struct WeightGradient {
  int64_t inputs, outputs, kernel;
  static constexpr int64_t PANEL_WIDTH = PANEL_VECTORS * LANES<T>;

  int64_t panels() const { return round_up(inputs, PANEL_WIDTH) / PANEL_WIDTH; }
  int64_t size() const { return kernel * kernel * panels() * outputs * PANEL_WIDTH; }

  // Add the gradient of one block, from the outputs' gradient and the activated inputs, both padded.
  void add(const Blocks& blocks, const T* gradient, const T* x, Sum<T>* sums) const {
    int64_t pixels = blocks.padded_size(), border = blocks.padding * (blocks.padded_width + 1);
    int64_t stride = round_up(outputs, LANES<T>);
    int64_t begin = border / PACK<T>, terms = round_up(pixels - border, PACK<T>) / PACK<T> - begin;
    int64_t panel_terms = round_up(pixels, PACK<T>) / PACK<T>;
    const auto* right = pack_right(x, pixels, inputs);
    auto lefts = pack_left(gradient, pixels, outputs, kernel > 1 ? PACK<T> : 1);
    for (int64_t y = 0; y < kernel; ++y)
      for (int64_t c = 0; c < kernel; ++c) {
        // x at pixel q is multiplied with the gradient at q - offset.
        int64_t offset = (y - blocks.padding) * blocks.padded_width + c - blocks.padding;
        int64_t first = begin * PACK<T> - offset, matrix = (first % PACK<T> + PACK<T>) % PACK<T>;
        const auto* left = lefts[matrix] + (first - matrix) / PACK<T> * stride;
        for (int64_t panel = 0; panel < panels(); ++panel, sums += outputs * PANEL_WIDTH)
          for (int64_t o = 0; o < outputs; o += TILE_ROWS) {
            MatrixProduct<T> product{left + o, 1, stride, 0, right + (panel * panel_terms + begin) * PANEL_WIDTH, terms, 1};
            int64_t vectors = panel_vectors<T>(inputs - panel * PANEL_WIDTH), rows = outputs - o;
            auto finish = [&](auto& tile) __attribute__((always_inline)) { accumulate(tile, sums + o * PANEL_WIDTH, rows); };
            if (rows > TILE_ROWS / 2) multiply<T, TILE_ROWS>(product, vectors, finish);
            else multiply<T, TILE_ROWS / 2>(product, vectors, finish);
          }
      }
  }

  template <int M, int N>
  static void accumulate(const Tile<T, M, N>& tile, Sum<T>* to, int64_t rows) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n)
        if (m < rows) store(load(to + m * PANEL_WIDTH + n * LANES<T>) + tile[m][n], to + m * PANEL_WIDTH + n * LANES<T>);
  }

  // Return the gradient (O, C, k, k) from the sums of all chunks (chunks, size).
  Tensor combine(const Tensor& chunks) const {
    return chunks.sum(0).view({kernel * kernel, panels(), outputs, PANEL_WIDTH}).permute({2, 1, 3, 0})
        .reshape({outputs, panels() * PANEL_WIDTH, kernel, kernel}).slice(1, 0, inputs);
  }
};

}  // namespace aloe_lightning
