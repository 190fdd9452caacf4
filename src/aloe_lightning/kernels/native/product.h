// Products of matrices a few rows and vectors large, the sums in registers all the while.
#pragma once

#include "blocks.h"

// Where the elements (row m, term k of part s) of the left matrix and (k of s, column) of the right one lie.
template <typename T>
struct Product {
  const Element<T>* left;
  int64_t left_row, left_term, left_part;
  const Element<T>* right;  // a panel: PANEL vectors a term, the parts' terms one after the other
  int64_t terms, parts;
};

template <typename T, int M, int N>
using Tile = Vector<T>[M][N];

template <typename T, int M, int N, typename F>
inline __attribute__((always_inline)) void multiply(const Product<T>& of, F finish) {
  Tile<T, M, N> sums;
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sums[m][n] = Vector<T>{};
  const Element<T>* right = of.right;
  for (int64_t part = 0; part < of.parts; ++part) {
    const Element<T>* left = of.left + part * of.left_part;
    for (int64_t term = 0; term < of.terms; ++term, left += of.left_term, right += PANEL * LANES<T>) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sums[m][n] = multiplied(sums[m][n], left + m * of.left_row, right + n * LANES<T>);
    }
  }
  finish(sums);
}

// The same for a number of vectors known only when it runs; finish(sums) gets a Tile<T, M, 1 to PANEL>.
template <typename T, int M, typename F>
inline void multiply(const Product<T>& of, int64_t vectors, F finish) {
  static_assert(PANEL == 3);
  if (vectors == 1) multiply<T, M, 1>(of, finish);
  else if (vectors == 2) multiply<T, M, 2>(of, finish);
  else multiply<T, M, 3>(of, finish);
}

template <typename T>
int64_t vectors_of(int64_t columns) {
  return std::min<int64_t>(PANEL, up(columns, LANES<T>) / LANES<T>);
}
