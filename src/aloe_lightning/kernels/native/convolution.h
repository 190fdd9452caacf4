// Convolutions of odd size and stride 1 on rows of channels, images padded with zeros.
#pragma once

#include "winograd.h"

template <typename T>
int64_t padded(int64_t channels) {  // as many as whole elements take
  return up(channels, PACK<T>);
}

// The right matrices of a convolution's products, for each tap: panels of outputs, taps x channels by elements, outputs of a
// panel, PACK. Taps are the kernel's lines x columns; behind them, if its size is 3 and sums are of T, the spots.
template <typename T>
struct Weight {
  const Element<T>*packed, *spots;
  int64_t inputs, outputs, kernel;

  Weight(const Tensor& given, int64_t inputs, int64_t outputs, int64_t kernel)
      : packed(static_cast<const Element<T>*>(given.const_data_ptr())),
        spots(packed + size(inputs, outputs, kernel * kernel) / PACK<T>), inputs(inputs), outputs(outputs), kernel(kernel) {
    TORCH_CHECK(given.numel() == whole(inputs, outputs, kernel), "not packed for this");
  }

  static int64_t size(int64_t inputs, int64_t outputs, int64_t taps) {
    return taps * padded<T>(inputs) * up(outputs, PANEL * LANES<T>);
  }
  static int64_t whole(int64_t inputs, int64_t outputs, int64_t kernel) {
    return size(inputs, outputs, kernel * kernel) + (has_spots<T>(kernel) ? size(inputs, outputs, SPOTS) : 0);
  }

  // Of (O, C, k, k).
  static Tensor pack(const Tensor& given, at::ScalarType type) {
    int64_t outputs = given.size(0), inputs = given.size(1), kernel = given.size(2), taps = kernel * kernel;
    Tensor weight = given.to(sizeof(Sum<T>) == 8 ? at::kDouble : at::kFloat).contiguous();
    Tensor found = at::zeros({whole(inputs, outputs, kernel)}, given.options().dtype(type));
    const auto* from = weight.const_data_ptr<Sum<T>>();
    T* to = static_cast<T*>(found.data_ptr());
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t c = 0; c < inputs; ++c, from += taps) {
        put(from, taps, inputs, o, c, to);
        if (!has_spots<T>(kernel)) continue;
        Sum<T> spots[SPOTS];
        weight_spots(from, spots);
        put(spots, SPOTS, inputs, o, c, to + size(inputs, outputs, taps));
      }
    return found;
  }

 private:
  static void put(const Sum<T>* from, int64_t taps, int64_t inputs, int64_t o, int64_t c, T* to) {
    int64_t wide = PANEL * LANES<T>, apart = padded<T>(inputs) * wide;
    to += o / wide * taps * apart + (c / PACK<T> * wide + o % wide) * PACK<T> + c % PACK<T>;
    for (int64_t tap = 0; tap < taps; ++tap) to[tap * apart] = narrowed<T>(from[tap]);
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
  if constexpr (has_spots<T>(3))  // else they need not compile
    if (has_spots<T>(weight.kernel) && in_spots(blocks))
      return convolve_spots(blocks, block, from, weight.spots, weight.inputs, weight.outputs, begin, finish);
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
