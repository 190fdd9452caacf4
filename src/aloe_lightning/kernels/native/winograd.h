// Convolutions of size 3 by 16 products for 4 pixels in place of 36: F(2x2, 3x3) of Lavin and Gray (arXiv:1509.09308).
// Tiles of 4x4 positions and the weight are transformed to 16 spots each, multiplied spot by spot, and transformed back to
// 2x2 pixels. Sums of float and double keep the digits for that, those of bfloat16 features do not.
#pragma once

#include "product.h"

constexpr int64_t SPOTS = 16;

template <typename T>
constexpr bool has_spots(int64_t kernel) {  // a weight for features of T
  return PACK<T> == 1 && kernel == 3;
}
inline bool in_spots(const Blocks& blocks) { return blocks.height % 2 == 0 && blocks.width % (2 * TILE) == 0; }

template <typename V>
inline __attribute__((always_inline)) void along(V& a, V& b, V& c, V& d) {
  V first = a - c, second = b + c, third = c - b, fourth = b - d;
  a = first, b = second, c = third, d = fourth;
}
// In place.
template <typename V>
inline __attribute__((always_inline)) void to_spots(V (&x)[4][4]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) along(x[0][i], x[1][i], x[2][i], x[3][i]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) along(x[i][0], x[i][1], x[i][2], x[i][3]);
}
template <typename V>
inline __attribute__((always_inline)) void from_spots(const V (&x)[4][4], V (*upper)[1], V (*lower)[1]) {
  V high[4], low[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) high[i] = x[0][i] + x[1][i] + x[2][i], low[i] = x[1][i] - x[2][i] - x[3][i];
  upper[0][0] = high[0] + high[1] + high[2], upper[1][0] = high[1] - high[2] - high[3];
  lower[0][0] = low[0] + low[1] + low[2], lower[1][0] = low[1] - low[2] - low[3];
}
// The spots of a weight (3, 3).
template <typename S>
void weight_spots(const S* weight, S* spots) {
  auto along = [](S a, S b, S c, S* to, int64_t step) {
    to[0] = a, to[step] = (a + b + c) / 2, to[2 * step] = (a - b + c) / 2, to[3 * step] = c;
  };
  S lines[4][3];
  for (int i = 0; i < 3; ++i) along(weight[i], weight[3 + i], weight[6 + i], &lines[0][i], 3);
  for (int i = 0; i < 4; ++i) along(lines[i][0], lines[i][1], lines[i][2], spots + 4 * i, 1);
}

// What `convolve` does, with a weight that has_spots() of a block for which in_spots(): `packed` are panels of outputs, spots x inputs, outputs of a panel.
template <typename T, typename B, typename F>
inline void convolve_spots(const Blocks& blocks, int64_t block, const T* from, const Element<T>* packed, int64_t inputs,
                           int64_t outputs, B begin, F finish) {
  constexpr int64_t L = LANES<T>, WIDE = PANEL * L;
  int64_t apart = up(inputs, L);
  T* left = scratch<LEFT, T>(SPOTS * TILE * apart);  // (spots, tiles, inputs)
  T* sums = scratch<RIGHT, T>(SPOTS * TILE * L);     // (spots, tiles, outputs of a vector)
  for (int64_t y = 0; y < blocks.height; y += 2)
    for (int64_t x = 0; x < blocks.width; x += 2 * TILE) {
      for (int64_t tile = 0; tile < TILE; ++tile)
        for (int64_t c = 0; c < inputs; c += L) {
          const T* corner = from + (y * blocks.line + x + 2 * tile) * inputs + c;
          Vector<T> spots[4][4];
#pragma GCC unroll 16
          for (int i = 0; i < SPOTS; ++i) spots[i / 4][i % 4] = load(corner + (i / 4 * blocks.line + i % 4) * inputs);
          to_spots(spots);
#pragma GCC unroll 16
          for (int i = 0; i < SPOTS; ++i) store(spots[i / 4][i % 4], left + (i * TILE + tile) * apart + c);
        }
      for (int64_t column = 0; column < outputs; column += L) {
        const auto* right = packed + column / WIDE * SPOTS * inputs * WIDE + column % WIDE;
        for (int64_t spot = 0; spot < SPOTS; ++spot, right += inputs * WIDE) {
          Product<T> product{left + spot * TILE * apart, apart, 1, 0, right, inputs, 1};
          multiply<T, TILE, 1>(product, [&](auto& found) __attribute__((always_inline)) {
#pragma GCC unroll 8
            for (int tile = 0; tile < TILE; ++tile) store(found[tile][0], sums + (spot * TILE + tile) * L);
          });
        }
        for (int64_t tile = 0; tile < TILE; tile += TILE / 2) {  // whose pixels are TILE of each line
          int64_t row = blocks.first(block) + y * blocks.width + x + 2 * tile, below = row + blocks.width;
          if (column % WIDE == 0) begin(row, column), begin(below, column);
          Tile<T, TILE, 1> upper, lower;
#pragma GCC unroll 4
          for (int t = 0; t < TILE / 2; ++t) {
            Vector<T> spots[4][4];
#pragma GCC unroll 16
            for (int i = 0; i < SPOTS; ++i) spots[i / 4][i % 4] = load(sums + (i * TILE + tile + t) * L);
            from_spots(spots, &upper[2 * t], &lower[2 * t]);
          }
          finish(row, column, TILE, upper);
          finish(below, column, TILE, lower);
        }
      }
    }
}
