// The gradients of norm_conv().
#pragma once

#include <optional>
#include <utility>

#include "convolution.h"

// Sums over rows of a gradient d and of d * x by channel: in the sums' type within a block, then in double.
template <typename T>
struct Totals {
  int64_t channels, wide;
  std::vector<double> whole;
  std::vector<Sum<T>> block;
  explicit Totals(int64_t channels)
      : channels(channels), wide(up(channels, LANES<T>)), whole(2 * wide), block(2 * wide) {}

  void add(int64_t channel, Vector<T> sum, Vector<T> product) {
    store(load(&block[channel]) + sum, &block[channel]);
    store(load(&block[wide + channel]) + product, &block[wide + channel]);
  }
  void finish_block() {
    for (size_t i = 0; i < whole.size(); ++i) whole[i] += std::exchange(block[i], 0);
  }
  static Tensor added(const std::vector<Totals>& parts) {  // (2, C)
    int64_t channels = parts[0].channels;
    Tensor found = at::zeros({2, channels}, at::kDouble);
    double* sums = found.data_ptr<double>();
    for (const auto& one : parts)
      for (int64_t c = 0; c < channels; ++c) {
        sums[c] += one.whole[c];
        sums[channels + c] += one.whole[one.wide + c];
      }
    return found;
  }
};

// gradient + slope * features + level, or the gradient only.
template <typename T>
struct Corrected {
  Rows<T> gradient, features;
  int64_t channels;
  bool as_given = true;
  ByChannel<T> slope, level;

  Corrected(const Rows<T>& gradient, int64_t channels) : gradient(gradient), features(gradient), channels(channels) {}
  Corrected(const Tensor& gradient, const Tensor& features, const Tensor& correction)
      : gradient(gradient), features(features), channels(gradient.size(1)), as_given(false), slope(correction[0]),
        level(correction[1]) {}

  void write(int64_t row, T* to) const {  // zeros up to a whole vector
    for (int64_t c = 0; c < channels; c += LANES<T>) store(at(row, c), to + c);
  }
  Vector<T> at(int64_t row, int64_t c) const {
    Vector<T> value = load(gradient[row] + c, channels - c);
    if (as_given) return value;
    return value + load(slope + c) * load(features[row] + c, channels - c) + load(level + c);
  }
};

// Take a tile's gradient through the ReLU to x: written to `into`, or added; sums of it behind the ReLU, and times x.
template <typename T, bool ADD, bool SUM, int N>
inline __attribute__((always_inline)) void through_relu(const Tile<T, TILE, N>& gradient, const Rows<T>& x,
                                                        const Rows<T>& into, const Sum<T>* scale, const Sum<T>* shift,
                                                        int64_t rows, int64_t columns, Vector<T> (&sums)[N][2]) {
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
    int64_t c = n * LANES<T>;
    Vector<T> slope = load(scale + c), level = load(shift + c), sum{}, product{};
#pragma GCC unroll 8
    for (int m = 0; m < TILE; ++m)
      if (m < rows) {
        T* to = into[m] + c;
        Vector<T> value = load(x[m] + c, columns - c);
        Vector<T> d = value * slope + level > 0 ? gradient[m][n] : Vector<T>{};
        if (SUM) {
          sum += d;
          product += d * value;
        }
        store(ADD ? load(to, columns - c) + slope * d : slope * d, to, columns - c);
      }
    sums[n][0] = sum;
    sums[n][1] = product;
  }
}

// A block of the gradient of x, and its sums if SUM. Returns the outputs' gradient with margins.
template <typename T, bool ADD, bool SUM>
const T* norm_conv_gradient(const Blocks& blocks, int64_t block, const Corrected<T>& gradient, const Rows<T>& x,
                            const Norm<T>& norm, const Weight<T>& weight, const Rows<T>& into, Totals<T>* totals) {
  const T* given = with_margins<T, GRADIENT>(blocks, block, gradient.channels,
                                             [&](int64_t row, T* to) { gradient.write(row, to); });
  auto begin = [&](int64_t row, int64_t column) {
    int64_t next = row + blocks.size(), columns = std::min<int64_t>(PANEL * LANES<T>, norm.channels - column);
    x.prefetch(next, column, columns);
    if (ADD) into.prefetch(next, column, columns);
    if (column == 0) gradient.gradient.prefetch(next, 0, gradient.channels);
    if (column == 0 && !gradient.as_given) gradient.features.prefetch(next, 0, gradient.channels);
  };
  convolve(blocks, block, given, weight, begin,
           [&](int64_t row, int64_t column, int64_t rows, auto& sums) __attribute__((always_inline)) {
    constexpr int N = sizeof(sums[0]) / BYTES;
    int64_t columns = norm.channels - column;
    Vector<T> found[N][2];
    Rows<T> from = x.from(row, column), to = into.from(row, column);
    if (rows == TILE && columns >= N * LANES<T>)  // no tests then
      through_relu<T, ADD, SUM>(sums, from, to, norm.scale + column, norm.shift + column, TILE, N * LANES<T>, found);
    else through_relu<T, ADD, SUM>(sums, from, to, norm.scale + column, norm.shift + column, rows, columns, found);
    if (SUM)
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) totals->add(column + n * LANES<T>, found[n][0], found[n][1]);
  });
  if (SUM) totals->finish_block();
  return given;
}
