// 3x3 convolutions with 16 products for 4 pixels instead of 36: F(2x2, 3x3) of Lavin and Gray (arXiv:1509.09308).
// Input tiles of 4x4 pixels and the weight are transformed to 16 coefficients, multiplied coefficient by coefficient, and
// the result is transformed back to 2x2 pixels. Float and double are precise enough for it, bfloat16 features are not.
#pragma once

#include "matrix_product.h"

namespace aloe_lightning {

constexpr int64_t COEFFICIENTS = 16;  // of a transformed tile

template <typename T>
constexpr bool has_winograd_weight(int64_t kernel) {
  return PACK<T> == 1 && kernel == 3;
}
inline bool fits_winograd_tiles(const Blocks& blocks) {
  return blocks.height % 2 == 0 && blocks.width % (2 * TILE_ROWS) == 0;
}

template <typename V>
inline __attribute__((always_inline)) void transform_line(V& a, V& b, V& c, V& d) {
  V first = a - c, second = b + c, third = c - b, fourth = b - d;
  a = first, b = second, c = third, d = fourth;
}
// Transform an input tile in place.
template <typename V>
inline __attribute__((always_inline)) void transform_input(V (&x)[4][4]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) transform_line(x[0][i], x[1][i], x[2][i], x[3][i]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) transform_line(x[i][0], x[i][1], x[i][2], x[i][3]);
}
// Transform coefficients to the two pixels of the upper and of the lower line.
template <typename V>
inline __attribute__((always_inline)) void transform_output(const V (&x)[4][4], V (*upper)[1], V (*lower)[1]) {
  V high[4], low[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) high[i] = x[0][i] + x[1][i] + x[2][i], low[i] = x[1][i] - x[2][i] - x[3][i];
  upper[0][0] = high[0] + high[1] + high[2], upper[1][0] = high[1] - high[2] - high[3];
  lower[0][0] = low[0] + low[1] + low[2], lower[1][0] = low[1] - low[2] - low[3];
}
// Transform a weight (3, 3).
template <typename S>
void transform_weight(const S* weight, S* coefficients) {
  auto transform = [](S a, S b, S c, S* to, int64_t step) {
    to[0] = a, to[step] = (a + b + c) / 2, to[2 * step] = (a - b + c) / 2, to[3 * step] = c;
  };
  S lines[4][3];
  for (int i = 0; i < 3; ++i) transform(weight[i], weight[3 + i], weight[6 + i], &lines[0][i], 3);
  for (int i = 0; i < 4; ++i) transform(lines[i][0], lines[i][1], lines[i][2], coefficients + 4 * i, 1);
}

// The same as `convolve`, for a kernel with has_winograd_weight() and blocks with fits_winograd_tiles(). `weight` holds
// panels of outputs: coefficients x inputs, outputs of the panel.
template <typename T, typename B, typename F>
inline void convolve_winograd(const Blocks& blocks, int64_t block, const T* from, const Element<T>* weight,
                              int64_t inputs, int64_t outputs, B begin, F finish) {
  constexpr int64_t L = LANES<T>, PANEL_WIDTH = PANEL_VECTORS * L;
  int64_t stride = round_up(inputs, L);
  T* left = scratch<LEFT, T>(COEFFICIENTS * TILE_ROWS * stride);  // (coefficients, tiles, inputs)
  T* sums = scratch<RIGHT, T>(COEFFICIENTS * TILE_ROWS * L);      // (coefficients, tiles, outputs of a vector)
  for (int64_t y = 0; y < blocks.height; y += 2)
    for (int64_t x = 0; x < blocks.width; x += 2 * TILE_ROWS) {
      for (int64_t tile = 0; tile < TILE_ROWS; ++tile)
        for (int64_t c = 0; c < inputs; c += L) {
          const T* corner = from + (y * blocks.padded_width + x + 2 * tile) * inputs + c;
          Vector<T> values[4][4];
#pragma GCC unroll 16
          for (int i = 0; i < COEFFICIENTS; ++i)
            values[i / 4][i % 4] = load(corner + (i / 4 * blocks.padded_width + i % 4) * inputs);
          transform_input(values);
#pragma GCC unroll 16
          for (int i = 0; i < COEFFICIENTS; ++i)
            store(values[i / 4][i % 4], left + (i * TILE_ROWS + tile) * stride + c);
        }
      for (int64_t column = 0; column < outputs; column += L) {
        const auto* right = weight + column / PANEL_WIDTH * COEFFICIENTS * inputs * PANEL_WIDTH + column % PANEL_WIDTH;
        for (int64_t i = 0; i < COEFFICIENTS; ++i, right += inputs * PANEL_WIDTH) {
          MatrixProduct<T> product{left + i * TILE_ROWS * stride, stride, 1, 0, right, inputs, 1};
          multiply<T, TILE_ROWS, 1>(product, [&](auto& results) __attribute__((always_inline)) {
#pragma GCC unroll 8
            for (int tile = 0; tile < TILE_ROWS; ++tile) store(results[tile][0], sums + (i * TILE_ROWS + tile) * L);
          });
        }
        for (int64_t tile = 0; tile < TILE_ROWS; tile += TILE_ROWS / 2) {  // half of the tiles: TILE_ROWS pixels a line
          int64_t row = blocks.first_row(block) + y * blocks.width + x + 2 * tile, below = row + blocks.width;
          if (column % PANEL_WIDTH == 0) begin(row, column), begin(below, column);
          Tile<T, TILE_ROWS, 1> upper, lower;
#pragma GCC unroll 4
          for (int t = 0; t < TILE_ROWS / 2; ++t) {
            Vector<T> values[4][4];
#pragma GCC unroll 16
            for (int i = 0; i < COEFFICIENTS; ++i) values[i / 4][i % 4] = load(sums + (i * TILE_ROWS + tile + t) * L);
            transform_output(values, &upper[2 * t], &lower[2 * t]);
          }
          finish(row, column, TILE_ROWS, upper);
          finish(below, column, TILE_ROWS, lower);
        }
      }
    }
}

}  // namespace aloe_lightning
