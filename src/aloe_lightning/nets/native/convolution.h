// Convolutions of odd size and stride 1 on rows of channels, images padded with zeros.
#pragma once

#include "product.h"

template <typename T>
int64_t padded(int64_t channels) {  // as many as whole elements take
  return up(channels, PACK<T>);
}

template <typename T>
struct Weight {
  const Element<T>* packed;
  int64_t inputs, outputs, kernel;

  Weight(const Tensor& packed, int64_t inputs, int64_t outputs, int64_t kernel)
      : packed(static_cast<const Element<T>*>(packed.const_data_ptr())), inputs(inputs), outputs(outputs), kernel(kernel) {
    int64_t wide = PANEL * LANES<T>;
    TORCH_CHECK(packed.numel() == kernel * kernel * padded<T>(inputs) * up(outputs, wide), "not packed for this");
  }

  // Of (O, C, k, k): right matrices of products (panels of outputs, kernel lines x kernel columns x channels by elements,
  // outputs of a panel, PACK).
  static Tensor pack(const Tensor& weight, at::ScalarType type) {
    int64_t outputs = weight.size(0), channels = weight.size(1), taps = weight.size(2) * weight.size(3);
    int64_t wide = PANEL * LANES<T>, more = up(outputs, wide), inputs = padded<T>(channels);
    return at::constant_pad_nd(weight.permute({2, 3, 1, 0}), {0, more - outputs, 0, inputs - channels})
        .reshape({taps * inputs / PACK<T>, PACK<T>, more / wide, wide}).permute({2, 0, 3, 1}).to(type).contiguous();
  }
};

// A block of rows with zeros around it, positions (height + 2 pad, line) one after the other; fill(row, to) writes one, and
// zeros up to a whole vector.
template <typename T, What WHAT, typename F>
T* with_margins(const Blocks& blocks, int64_t block, int64_t channels, F fill) {
  int64_t apart = padded<T>(channels), all = blocks.positions() * apart, line = blocks.line * apart;
  // what is touched past the end: a vector, and the rows of a last tile that are none
  T* found = scratch<WHAT, T>(all + (TILE + blocks.kernel) * apart + 2 * LANES<T>);
  auto clear = [](T* from, T* to) { std::memset(from, 0, sizeof(T) * (to - from)); };
  clear(found, found + blocks.pad * line);
  for (int64_t y = 0, wide = blocks.wide(block); y < blocks.height; ++y) {
    T* start = found + (blocks.pad + y) * line;
    T* to = start + blocks.pad * apart;
    clear(start, to);
    for (int64_t x = 0; x < wide; ++x, to += apart) fill(blocks.first(block) + y * blocks.width + x, to);
    clear(to, start + line);
  }
  clear(found + all - blocks.pad * line, found + all + apart);
  return found;
}

template <typename T>
T* activated(const Blocks& blocks, int64_t block, const Rows<T>& x, const Norm<T>& norm) {
  return with_margins<T, INPUT>(blocks, block, norm.channels, [&](int64_t row, T* to) {
    const T* from = x[row];
    for (int64_t c = 0; c < norm.channels; c += LANES<T>)
      store(norm(load(from + c, norm.channels - c), c), to + c);  // of 0 it makes 0 where there is no channel
  });
}

// Products of a block with margins and a weight: begin(first row of a tile, first column), then finish(the same, how many
// rows, sums).
template <typename T, typename B, typename F>
inline void convolve(const Blocks& blocks, int64_t block, const T* from, const Weight<T>& weight, B begin, F finish) {
  int64_t apart = padded<T>(weight.inputs) / PACK<T>, terms = weight.kernel * apart;
  const auto* left = reinterpret_cast<const Element<T>*>(from);
  const auto* right = weight.packed;
  for (int64_t column = 0; column < weight.outputs; column += PANEL * LANES<T>) {
    int64_t vectors = vectors_of<T>(weight.outputs - column);
    for (int64_t y = 0; y < blocks.height; ++y)
      for (int64_t x = 0; x < blocks.wide(block); x += TILE) {
        int64_t row = blocks.first(block) + y * blocks.width + x, rows = std::min<int64_t>(TILE, blocks.wide(block) - x);
        Product<T> product{left + (y * blocks.line + x) * apart, apart, 1, blocks.line * apart, right, terms, weight.kernel};
        begin(row, column);
        multiply<T, TILE>(product, vectors, [&](auto& sums) __attribute__((always_inline)) {
          finish(row, column, rows, sums);
        });
      }
    right += PANEL * LANES<T> * terms * weight.kernel;
  }
}

template <typename T, int N>
inline void write(const Tile<T, TILE, N>& sums, const Rows<T>& to, int64_t rows, int64_t columns) {
#pragma GCC unroll 8
  for (int m = 0; m < TILE; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n)
      if (m < rows) store(sums[m][n], to[m] + n * LANES<T>, columns - n * LANES<T>);
}

// A block of the convolution of relu(x * scale + shift).
template <typename T>
void norm_conv(const Blocks& blocks, int64_t block, const Rows<T>& x, const Norm<T>& norm, const Weight<T>& weight,
               const Rows<T>& out) {
  auto begin = [&](int64_t row, int64_t column) {
    if (column == 0) x.prefetch(row + blocks.size(), 0, norm.channels);
  };
  convolve(blocks, block, activated(blocks, block, x, norm), weight, begin,
           [&](int64_t row, int64_t column, int64_t rows, auto& sums) __attribute__((always_inline)) {
    write<T>(sums, out.from(row, column), rows, weight.outputs - column);
  });
}
