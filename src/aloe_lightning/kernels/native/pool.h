// Averages of relu(x * scale + shift) over squares of pixels, and their gradient, an image at a time.
#pragma once

#include "gradient.h"

struct Squares {
  int64_t side, pool;  // pixels in a row, of an image and of a square

  // work(row of a square's first pixel, row of its average)
  template <typename F>
  void each(int64_t image, F work) const {
    int64_t squares = side / pool;
    for (int64_t y = 0; y < squares; ++y)
      for (int64_t x = 0; x < squares; ++x)
        work((image * side + y * pool) * side + x * pool, (image * squares + y) * squares + x);
  }
};

template <typename T>
void norm_pool(const Squares& squares, int64_t image, const Rows<T>& x, const Norm<T>& norm, const Rows<T>& out) {
  int64_t pool = squares.pool;
  squares.each(image, [&](int64_t first, int64_t average) {
    for (int64_t c = 0; c < norm.channels; c += LANES<T>) {
      Vector<T> sum{};
      for (int64_t y = 0; y < pool; ++y)
        for (int64_t i = 0; i < pool; ++i) sum += norm(load(x[first + y * squares.side + i] + c, norm.channels - c), c);
      store(sum / Sum<T>(pool * pool), out[average] + c, norm.channels - c);
    }
  });
}

// Writes the gradient of x; adds up its sums if SUM.
template <typename T, bool SUM>
void norm_pool_gradient(const Squares& squares, int64_t image, const Rows<T>& gradient, const Rows<T>& x,
                        const Norm<T>& norm, const Rows<T>& into, Totals<T>* totals) {
  int64_t pool = squares.pool;
  squares.each(image, [&](int64_t first, int64_t average) {
    for (int64_t c = 0; c < norm.channels; c += LANES<T>) {
      Vector<T> scale = load(norm.scale + c), shift = load(norm.shift + c), sum{}, product{};
      Vector<T> each = load(gradient[average] + c, norm.channels - c) / Sum<T>(pool * pool);
      for (int64_t y = 0; y < pool; ++y)
        for (int64_t i = 0; i < pool; ++i) {
          int64_t row = first + y * squares.side + i;
          Vector<T> value = load(x[row] + c, norm.channels - c);
          Vector<T> d = value * scale + shift > 0 ? each : Vector<T>{};
          if (SUM) {
            sum += d;
            product += d * value;
          }
          store(scale * d, into[row] + c, norm.channels - c);
        }
      if (SUM) totals->add(c, sum, product);
    }
  });
  if (SUM) totals->finish_block();
}
