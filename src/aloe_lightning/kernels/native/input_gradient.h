// The gradient of norm_conv() with respect to its input.
#pragma once

#include <utility>

#include "convolution.h"

namespace aloe_lightning {

// Sums over rows of a gradient d and of d * x for each channel: in the type Sum<T> within a block, then in double.
template <typename T>
struct ChannelSums {
  int64_t channels, padded;
  std::vector<double> total;
  std::vector<Sum<T>> block;
  explicit ChannelSums(int64_t channels)
      : channels(channels), padded(round_up(channels, LANES<T>)), total(2 * padded), block(2 * padded) {}

  void add(int64_t channel, Vector<T> sum, Vector<T> product) {
    store(load(&block[channel]) + sum, &block[channel]);
    store(load(&block[padded + channel]) + product, &block[padded + channel]);
  }
  void finish_block() {
    for (size_t i = 0; i < total.size(); ++i) total[i] += std::exchange(block[i], 0);
  }
  static Tensor combine(const std::vector<ChannelSums>& parts) {  // (2, C)
    int64_t channels = parts[0].channels;
    Tensor result = at::zeros({2, channels}, at::kDouble);
    double* sums = result.data_ptr<double>();
    for (const auto& part : parts)
      for (int64_t c = 0; c < channels; ++c) {
        sums[c] += part.total[c];
        sums[channels + c] += part.total[part.padded + c];
      }
    return result;
  }
};

// gradient + slope * features + offset: slope and offset are what the batch statistics of the BatchNorm layers that read
// the features add to their gradient. In eval mode they add nothing, and this is the gradient alone.
template <typename T>
struct BatchNormGradient {
  Rows<T> gradient, features;
  int64_t channels;
  bool eval_mode = true;
  ChannelValues<T> slope, offset;

  BatchNormGradient(const Rows<T>& gradient, int64_t channels)
      : gradient(gradient), features(gradient), channels(channels) {}
  BatchNormGradient(const Tensor& gradient, const Tensor& features, const Tensor& terms)
      : gradient(gradient), features(features), channels(gradient.size(1)), eval_mode(false), slope(terms[0]),
        offset(terms[1]) {}

  void write(int64_t row, T* to) const {  // and zeros up to a whole vector
    for (int64_t c = 0; c < channels; c += LANES<T>) store(at(row, c), to + c);
  }
  Vector<T> at(int64_t row, int64_t c) const {
    Vector<T> value = load(gradient[row] + c, channels - c);
    if (eval_mode) return value;
    return value + load(slope + c) * load(features[row] + c, channels - c) + load(offset + c);
  }
};

// Propagate a tile's gradient through relu(x * scale + shift). The gradient of x is written, or added if ADD, to
// `input_gradient`; `sums` gets, if SUM, the sums over rows of the gradient after the ReLU's mask, and of it times x.
template <typename T, bool ADD, bool SUM, int N>
inline __attribute__((always_inline)) void relu_gradient(const Tile<T, TILE_ROWS, N>& gradient, const Rows<T>& x,
                                                         const Rows<T>& input_gradient, const Sum<T>* scales,
                                                         const Sum<T>* shifts, int64_t rows, int64_t columns,
                                                         Vector<T> (&sums)[N][2]) {
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
    int64_t c = n * LANES<T>;
    Vector<T> scale = load(scales + c), shift = load(shifts + c), sum{}, product{};
#pragma GCC unroll 8
    for (int m = 0; m < TILE_ROWS; ++m)
      if (m < rows) {
        T* to = input_gradient[m] + c;
        Vector<T> value = load(x[m] + c, columns - c);
        Vector<T> d = value * scale + shift > 0 ? gradient[m][n] : Vector<T>{};
        if (SUM) {
          sum += d;
          product += d * value;
        }
        store(ADD ? load(to, columns - c) + scale * d : scale * d, to, columns - c);
      }
    sums[n][0] = sum;
    sums[n][1] = product;
  }
}

// Compute the gradient of x for one block, and its sums if SUM. Return the padded gradient of the outputs.
template <typename T, bool ADD, bool SUM>
const T* norm_conv_gradient(const Blocks& blocks, int64_t block, const BatchNormGradient<T>& output_gradient,
                            const Rows<T>& x, const NormReLU<T>& norm, const Weight<T>& weight,
                            const Rows<T>& input_gradient, ChannelSums<T>* sums) {
  const T* padded = pad_block<T, OUTPUT_GRADIENT>(blocks, block, output_gradient.channels,
                                                  [&](int64_t row, T* to) { output_gradient.write(row, to); });
  auto begin = [&](int64_t row, int64_t column) {
    int64_t next = row + blocks.size(), columns = std::min<int64_t>(PANEL_VECTORS * LANES<T>, norm.channels - column);
    x.prefetch(next, column, columns);
    if (ADD) input_gradient.prefetch(next, column, columns);
    if (column == 0) output_gradient.gradient.prefetch(next, 0, output_gradient.channels);
    if (column == 0 && !output_gradient.eval_mode) output_gradient.features.prefetch(next, 0, output_gradient.channels);
  };
  convolve(blocks, block, padded, weight, begin,
           [&](int64_t row, int64_t column, int64_t rows, auto& tile) __attribute__((always_inline)) {
    constexpr int N = sizeof(tile[0]) / VECTOR_BYTES;
    int64_t columns = norm.channels - column;
    Vector<T> tile_sums[N][2];
    Rows<T> from = x.from(row, column), to = input_gradient.from(row, column);
    if (rows == TILE_ROWS && columns >= N * LANES<T>)  // constants, so that the compiler drops all bounds checks
      relu_gradient<T, ADD, SUM>(tile, from, to, norm.scale + column, norm.shift + column, TILE_ROWS, N * LANES<T>,
                                 tile_sums);
    else
      relu_gradient<T, ADD, SUM>(tile, from, to, norm.scale + column, norm.shift + column, rows, columns, tile_sums);
    if (SUM)
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sums->add(column + n * LANES<T>, tile_sums[n][0], tile_sums[n][1]);
  });
  if (SUM) sums->finish_block();
  return padded;
}

}  // namespace aloe_lightning
