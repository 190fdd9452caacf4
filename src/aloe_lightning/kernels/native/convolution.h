// Convolutions of odd kernel size and stride 1 on rows of channels; images are padded with zeros.
#pragma once

#include "winograd.h"

namespace aloe_lightning {

template <typename T>
int64_t padded_channels(int64_t channels) {  // whole elements
  return round_up(channels, PACK<T>);
}

// A convolution's weight as the right matrices of its products: panels of outputs; in a panel taps x channels by elements,
// outputs of the panel, PACK. The taps are the kernel's positions, line by line. If has_winograd_weight(), the same with
// Winograd coefficients instead of taps follows.
template <typename T>
struct Weight {
  const Element<T>*taps, *coefficients;
  int64_t inputs, outputs, kernel;

  Weight(const Tensor& packed, int64_t inputs, int64_t outputs, int64_t kernel)
      : taps(static_cast<const Element<T>*>(packed.const_data_ptr())),
        coefficients(taps + size(inputs, outputs, kernel * kernel) / PACK<T>), inputs(inputs), outputs(outputs),
        kernel(kernel) {
    TORCH_CHECK(packed.numel() == total_size(inputs, outputs, kernel), "a weight packed for another layer or type");
  }

  static int64_t size(int64_t inputs, int64_t outputs, int64_t taps) {
    return taps * padded_channels<T>(inputs) * round_up(outputs, PANEL_VECTORS * LANES<T>);
  }
  static int64_t total_size(int64_t inputs, int64_t outputs, int64_t kernel) {
    return size(inputs, outputs, kernel * kernel) +
           (has_winograd_weight<T>(kernel) ? size(inputs, outputs, COEFFICIENTS) : 0);
  }

  // Pack a weight (O, C, k, k).
  static Tensor pack(const Tensor& source, at::ScalarType type) {
    int64_t outputs = source.size(0), inputs = source.size(1), kernel = source.size(2), taps = kernel * kernel;
    Tensor weight = source.to(sizeof(Sum<T>) == 8 ? at::kDouble : at::kFloat).contiguous();
    Tensor packed = at::zeros({total_size(inputs, outputs, kernel)}, source.options().dtype(type));
    const auto* from = weight.const_data_ptr<Sum<T>>();
    T* to = static_cast<T*>(packed.data_ptr());
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t c = 0; c < inputs; ++c, from += taps) {
        put(from, taps, inputs, o, c, to);
        if (!has_winograd_weight<T>(kernel)) continue;
        Sum<T> coefficients[COEFFICIENTS];
        transform_weight(from, coefficients);
        put(coefficients, COEFFICIENTS, inputs, o, c, to + size(inputs, outputs, taps));
      }
    return packed;
  }

 private:
  static void put(const Sum<T>* from, int64_t taps, int64_t inputs, int64_t o, int64_t c, T* to) {
    int64_t panel_width = PANEL_VECTORS * LANES<T>, stride = padded_channels<T>(inputs) * panel_width;
    to += o / panel_width * taps * stride + (c / PACK<T> * panel_width + o % panel_width) * PACK<T> + c % PACK<T>;
    for (int64_t tap = 0; tap < taps; ++tap) to[tap * stride] = to_feature<T>(from[tap]);
  }
};

// Copy a block of rows to scratch memory with zero padding around it: padded_size() pixels in order. fill(row, to) writes
// the channels of a row, and zeros up to a whole vector.
template <typename T, Purpose PURPOSE, typename F>
T* pad_block(const Blocks& blocks, int64_t block, int64_t channels, F fill) {
  int64_t stride = padded_channels<T>(channels), size = blocks.padded_size() * stride, line = blocks.padded_width * stride;
  // Beyond the end, a vector and the missing rows of the last tile are read, too.
  T* padded = scratch<PURPOSE, T>(size + (TILE_ROWS + blocks.kernel) * stride + 2 * LANES<T>);
  auto clear = [](T* from, T* to) { std::memset(from, 0, sizeof(T) * (to - from)); };
  clear(padded, padded + blocks.padding * line);
  for (int64_t y = 0, width = blocks.width_of(block); y < blocks.height; ++y) {
    T* start = padded + (blocks.padding + y) * line;
    T* to = start + blocks.padding * stride;
    clear(start, to);
    for (int64_t x = 0; x < width; ++x, to += stride) fill(blocks.first_row(block) + y * blocks.width + x, to);
    clear(to, start + line);
  }
  clear(padded + size - blocks.padding * line, padded + size + stride);
  return padded;
}

template <typename T>
T* padded_activations(const Blocks& blocks, int64_t block, const Rows<T>& x, const NormReLU<T>& norm) {
  return pad_block<T, INPUT>(blocks, block, norm.channels, [&](int64_t row, T* to) {
    const T* from = x[row];
    for (int64_t c = 0; c < norm.channels; c += LANES<T>)
      store(norm(load(from + c, norm.channels - c), c), to + c);  // 0 beyond the last channel, where scale and shift are 0
  });
}

// Convolve a padded block. For each tile, call begin(first row, first column) and then finish(first row, first column,
// number of rows, sums).
template <typename T, typename B, typename F>
inline void convolve(const Blocks& blocks, int64_t block, const T* from, const Weight<T>& weight, B begin, F finish) {
  if constexpr (has_winograd_weight<T>(3))  // does not compile for other types
    if (has_winograd_weight<T>(weight.kernel) && fits_winograd_tiles(blocks))
      return convolve_winograd(blocks, block, from, weight.coefficients, weight.inputs, weight.outputs, begin, finish);
  int64_t stride = padded_channels<T>(weight.inputs) / PACK<T>, terms = weight.kernel * stride;
  const auto* left = reinterpret_cast<const Element<T>*>(from);
  const auto* right = weight.taps;
  for (int64_t column = 0; column < weight.outputs; column += PANEL_VECTORS * LANES<T>) {
    int64_t vectors = panel_vectors<T>(weight.outputs - column);
    for (int64_t y = 0; y < blocks.height; ++y)
      for (int64_t x = 0; x < blocks.width_of(block); x += TILE_ROWS) {
        int64_t row = blocks.first_row(block) + y * blocks.width + x;
        int64_t rows = std::min<int64_t>(TILE_ROWS, blocks.width_of(block) - x);
        // The pixels under a kernel's line are contiguous, hence one part with kernel * stride terms.
        MatrixProduct<T> product{left + (y * blocks.padded_width + x) * stride, stride, 1, blocks.padded_width * stride,
                                 right, terms, weight.kernel};
        begin(row, column);
        multiply<T, TILE_ROWS>(product, vectors, [&](auto& sums) __attribute__((always_inline)) {
          finish(row, column, rows, sums);
        });
      }
    right += PANEL_VECTORS * LANES<T> * terms * weight.kernel;
  }
}

template <typename T, int N>
inline void write_tile(const Tile<T, TILE_ROWS, N>& sums, const Rows<T>& to, int64_t rows, int64_t columns) {
#pragma GCC unroll 8
  for (int m = 0; m < TILE_ROWS; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n)
      if (m < rows) store(sums[m][n], to[m] + n * LANES<T>, columns - n * LANES<T>);
}

// Convolve relu(x * scale + shift) for one block.
template <typename T>
void norm_conv(const Blocks& blocks, int64_t block, const Rows<T>& x, const NormReLU<T>& norm, const Weight<T>& weight,
               const Rows<T>& out) {
  auto begin = [&](int64_t row, int64_t column) {
    if (column == 0) x.prefetch(row + blocks.size(), 0, norm.channels);
  };
  convolve(blocks, block, padded_activations(blocks, block, x, norm), weight, begin,
           [&](int64_t row, int64_t column, int64_t rows, auto& sums) __attribute__((always_inline)) {
    write_tile<T>(sums, out.from(row, column), rows, weight.outputs - column);
  });
}

}  // namespace aloe_lightning
