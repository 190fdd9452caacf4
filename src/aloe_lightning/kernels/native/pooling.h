// Averages of relu(x * scale + shift) over square windows of pixels, and their gradient, image by image.
#pragma once

#include "input_gradient.h"

namespace aloe_lightning {

struct PoolingWindows {
  int64_t side, pool;  // side lengths of an image and of a window, in pixels

  // Call work(row of a window's first pixel, row of its average) for all windows of an image.
  template <typename F>
  void for_each(int64_t image, F work) const {
    int64_t windows = side / pool;
    for (int64_t y = 0; y < windows; ++y)
      for (int64_t x = 0; x < windows; ++x)
        work((image * side + y * pool) * side + x * pool, (image * windows + y) * windows + x);
  }
};

template <typename T>
void norm_pool(const PoolingWindows& windows, int64_t image, const Rows<T>& x, const NormReLU<T>& norm,
               const Rows<T>& out) {
  int64_t pool = windows.pool;
  windows.for_each(image, [&](int64_t first, int64_t average) {
    for (int64_t c = 0; c < norm.channels; c += LANES<T>) {
      Vector<T> sum{};
      for (int64_t y = 0; y < pool; ++y)
        for (int64_t i = 0; i < pool; ++i) sum += norm(load(x[first + y * windows.side + i] + c, norm.channels - c), c);
      store(sum / Sum<T>(pool * pool), out[average] + c, norm.channels - c);
    }
  });
}

// Write the gradient of x; add its sums to `sums` if SUM.
template <typename T, bool SUM>
void norm_pool_gradient(const PoolingWindows& windows, int64_t image, const Rows<T>& gradient, const Rows<T>& x,
                        const NormReLU<T>& norm, const Rows<T>& input_gradient, ChannelSums<T>* sums) {
  int64_t pool = windows.pool;
  windows.for_each(image, [&](int64_t first, int64_t average) {
    for (int64_t c = 0; c < norm.channels; c += LANES<T>) {
      Vector<T> scale = load(norm.scale + c), shift = load(norm.shift + c), sum{}, product{};
      Vector<T> share = load(gradient[average] + c, norm.channels - c) / Sum<T>(pool * pool);
      for (int64_t y = 0; y < pool; ++y)
        for (int64_t i = 0; i < pool; ++i) {
          int64_t row = first + y * windows.side + i;
          Vector<T> value = load(x[row] + c, norm.channels - c);
          Vector<T> d = value * scale + shift > 0 ? share : Vector<T>{};
          if (SUM) {
            sum += d;
            product += d * value;
          }
          store(scale * d, input_gradient[row] + c, norm.channels - c);
        }
      if (SUM) sums->add(c, sum, product);
    }
  });
  if (SUM) sums->finish_block();
}

}  // namespace aloe_lightning
