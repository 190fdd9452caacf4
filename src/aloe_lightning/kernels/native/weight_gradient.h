// The gradient of a convolution's weight.
#pragma once

#include "convolution.h"

// A block with margins as a right matrix: panels of channels, the positions in them by elements.
template <typename T>
const Element<T>* as_right(const T* from, int64_t positions, int64_t channels) {
  int64_t apart = padded<T>(channels), wide = PANEL * LANES<T>, terms = up(positions, PACK<T>) / PACK<T>;
  auto* found = scratch<RIGHT, Element<T>>(terms * up(channels, wide));
  auto* to = found;
  for (int64_t panel = 0; panel < channels; panel += wide)
    for (int64_t term = 0; term < terms; ++term, to += wide)
      for (int64_t c = 0; c < std::min(wide, channels - panel); c += LANES<T>) {
        const T* first = from + term * PACK<T> * apart + panel + c;
        auto elements = packed(first, first + apart);
        std::memcpy(to + c, &elements, sizeof elements);
      }
  return found;
}

// A block with margins as left matrices: in matrix p, row t has by channel the elements of the positions from t * PACK + p
// on. Row -1 is there, too.
template <typename T>
std::vector<const Element<T>*> as_left(const T* from, int64_t positions, int64_t channels, int64_t matrices) {
  int64_t apart = padded<T>(channels), wide = up(channels, LANES<T>), terms = up(positions, PACK<T>) / PACK<T>;
  auto* memory = scratch<LEFT, Element<T>>(matrices * (terms + 1) * wide);
  std::vector<const Element<T>*> found;
  for (int64_t p = 0; p < matrices; ++p) {
    found.push_back(memory + wide);
    std::memset(memory, 0, sizeof(Element<T>) * wide);  // margins are 0
    memory += wide;
    for (int64_t term = 0; term < terms; ++term, memory += wide)
      for (int64_t c = 0; c < channels; c += LANES<T>) {
        const T* first = from + (term * PACK<T> + p) * apart + c;
        auto elements = packed(first, first + apart);
        std::memcpy(memory + c, &elements, sizeof elements);
      }
  }
  return found;
}

// Sums of a weight's gradient over blocks: (kernel lines x kernel columns, panels of inputs, outputs, inputs of a panel).
template <typename T>
struct WeightGradient {
  int64_t inputs, outputs, kernel;
  static constexpr int64_t WIDE = PANEL * LANES<T>;

  int64_t panels() const { return up(inputs, WIDE) / WIDE; }
  int64_t size() const { return kernel * kernel * panels() * outputs * WIDE; }

  // Add that of a block, given the outputs' gradient and the activated inputs, both with margins.
  void add(const Blocks& blocks, const T* gradient, const T* x, Sum<T>* into) const {
    int64_t positions = blocks.positions(), margin = blocks.pad * (blocks.line + 1), apart = up(outputs, LANES<T>);
    int64_t begin = margin / PACK<T>, terms = up(positions - margin, PACK<T>) / PACK<T> - begin;
    int64_t panel_terms = up(positions, PACK<T>) / PACK<T>;
    const auto* right = as_right(x, positions, inputs);
    auto lefts = as_left(gradient, positions, outputs, kernel > 1 ? PACK<T> : 1);
    for (int64_t y = 0; y < kernel; ++y)
      for (int64_t c = 0; c < kernel; ++c) {
        // x at a position q is multiplied with the gradient at q - ahead
        int64_t ahead = (y - blocks.pad) * blocks.line + c - blocks.pad;
        int64_t first = begin * PACK<T> - ahead, matrix = (first % PACK<T> + PACK<T>) % PACK<T>;
        const auto* left = lefts[matrix] + (first - matrix) / PACK<T> * apart;
        for (int64_t panel = 0; panel < panels(); ++panel, into += outputs * WIDE)
          for (int64_t o = 0; o < outputs; o += TILE) {
            Product<T> product{left + o, 1, apart, 0, right + (panel * panel_terms + begin) * WIDE, terms, 1};
            int64_t vectors = vectors_of<T>(inputs - panel * WIDE), rows = outputs - o;
            auto finish = [&](auto& sums) __attribute__((always_inline)) { plus(sums, into + o * WIDE, rows); };
            if (rows > TILE / 2) multiply<T, TILE>(product, vectors, finish);
            else multiply<T, TILE / 2>(product, vectors, finish);
          }
      }
  }

  template <int M, int N>
  static void plus(const Tile<T, M, N>& sums, Sum<T>* to, int64_t rows) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n)
        if (m < rows) store(load(to + m * WIDE + n * LANES<T>) + sums[m][n], to + m * WIDE + n * LANES<T>);
  }

  // (O, C, k, k) from (parts, size)
  Tensor added(const Tensor& parts) const {
    return parts.sum(0).view({kernel * kernel, panels(), outputs, WIDE}).permute({2, 1, 3, 0})
        .reshape({outputs, panels() * WIDE, kernel, kernel}).slice(1, 0, inputs);
  }
};
