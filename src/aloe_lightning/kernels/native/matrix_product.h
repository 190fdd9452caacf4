// Products of small matrices, a few rows by a few vectors, whose sums stay in the registers.
#pragma once

#include "blocks.h"

namespace aloe_lightning {

// The sum of `parts` products of a left and a right matrix: element (row m, term k) of the left matrix of part s is at
// left + m * row_stride + k * term_stride + s * part_stride.
template <typename T>
struct MatrixProduct {
  const Element<T>* left;
  int64_t row_stride, term_stride, part_stride;
  const Element<T>* right;  // a panel: PANEL_VECTORS vectors for each term, the terms of all parts in order
  int64_t terms, parts;
};

template <typename T, int M, int N>
using Tile = Vector<T>[M][N];

// Compute M rows by N vectors and call finish(sums).
template <typename T, int M, int N, typename F>
inline __attribute__((always_inline)) void multiply(const MatrixProduct<T>& product, F finish) {
  Tile<T, M, N> sums;
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sums[m][n] = Vector<T>{};
  const Element<T>* right = product.right;
  for (int64_t part = 0; part < product.parts; ++part) {
    const Element<T>* left = product.left + part * product.part_stride;
    for (int64_t term = 0; term < product.terms; ++term, left += product.term_stride, right += PANEL_VECTORS * LANES<T>) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n)
          sums[m][n] = multiply_add(sums[m][n], left + m * product.row_stride, right + n * LANES<T>);
    }
  }
  finish(sums);
}

// The same for a number of vectors known at run time; finish(sums) takes a Tile<T, M, 1 to PANEL_VECTORS>.
template <typename T, int M, typename F>
inline void multiply(const MatrixProduct<T>& product, int64_t vectors, F finish) {
  static_assert(PANEL_VECTORS == 3);
  if (vectors == 1) multiply<T, M, 1>(product, finish);
  else if (vectors == 2) multiply<T, M, 2>(product, finish);
  else multiply<T, M, 3>(product, finish);
}

// The number of vectors that hold `columns` columns, at most a panel.
template <typename T>
int64_t panel_vectors(int64_t columns) {
  return std::min<int64_t>(PANEL_VECTORS, round_up(columns, LANES<T>) / LANES<T>);
}

}  // namespace aloe_lightning
