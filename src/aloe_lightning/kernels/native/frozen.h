// A dense stage of a net that does not learn: images have nothing in common, so each goes through all layers at once, by
// one thread, in a core's cache.
#pragma once

#include <tuple>

#include "pool.h"

constexpr int64_t PIXELS = 1024;  // that go through together

template <typename T>
struct Frozen {
  struct Layer {
    Norm<T> norm1, norm2;
    Weight<T> weight1, weight2;
  };
  std::vector<Layer> layers;
  Norm<T> last;
  Squares squares;
  int64_t inputs, growth, hidden;

  // affines: scale and shift of the norms in their order; weights: packed, conv1 and conv2 of each layer
  Frozen(int64_t inputs, at::TensorList affines, at::TensorList weights, int64_t side, int64_t pool, bool backward)
      : last(affines[affines.size() - 2], affines.back()), squares{side, pool}, inputs(inputs),
        growth((last.channels - inputs) / int64_t(weights.size() / 2)), hidden(affines[2].numel()) {
    for (size_t i = 0; i < weights.size() / 2; ++i) {
      const Tensor* a = affines.data() + 4 * i;
      int64_t c = inputs + i * growth;
      layers.push_back({{a[0], a[1]}, {a[2], a[3]},
                        backward ? Weight<T>(weights[2 * i], hidden, c, 1) : Weight<T>(weights[2 * i], c, hidden, 1),
                        backward ? Weight<T>(weights[2 * i + 1], growth, hidden, 3)
                                 : Weight<T>(weights[2 * i + 1], hidden, growth, 3)});
    }
  }

  // work(first image, how many), by the threads
  template <typename F>
  void in_groups(int64_t images, F work) const {
    int64_t group = std::max<int64_t>(1, PIXELS / (squares.side * squares.side));
    in_turn((images + group - 1) / group, [&](int64_t i) { work(i * group, std::min(group, images - i * group)); });
  }

  static void run(const Tensor& features, int64_t inputs, at::TensorList affines, at::TensorList weights, int64_t side,
                  int64_t pool, const Tensor& kept, const Tensor& out) {
    Frozen(inputs, affines, weights, side, pool, false).forward(features, kept, out);
  }
  static void run_backward(const Tensor& features, const Tensor& gradient, at::TensorList affines, at::TensorList weights,
                           int64_t side, int64_t pool, const Tensor& kept, const Tensor& out) {
    Frozen(out.size(1), affines, weights, side, pool, true).backward(gradient, features, kept, out);
  }

 private:
  // `features` (M, all channels) has the first ones; `kept` (layers, M, hidden) gets the outputs of the first convolutions,
  // or is (1, 0, hidden) if nobody wants them
  void forward(const Tensor& features, const Tensor& kept, const Tensor& out) const {
    int64_t area = squares.side * squares.side, averages = area / (squares.pool * squares.pool);
    bool keep = kept.size(1) > 0;
    in_groups(features.size(0) / area, [&](int64_t first, int64_t images) {
      int64_t rows = images * area, c = inputs;
      Rows<T> x = Rows<T>(features).from(first * area);
      for (size_t i = 0; i < layers.size(); ++i, c += growth) {
        const Layer& layer = layers[i];
        T* h = keep ? static_cast<T*>(kept.data_ptr()) + (i * features.size(0) + first * area) * hidden
                    : scratch<HIDDEN, T>(rows * hidden + LANES<T>);
        Blocks one(rows, squares.side, 1), three(rows, squares.side, 3);
        for (int64_t b = 0; b < one.count; ++b) norm_conv<T>(one, b, x, layer.norm1, layer.weight1, {h, hidden});
        for (int64_t b = 0; b < three.count; ++b)
          norm_conv<T>(three, b, {h, hidden}, layer.norm2, layer.weight2, x.from(0, c));
      }
      for (int64_t i = 0; i < images; ++i)
        norm_pool<T>(squares, i, x, last, Rows<T>(out).from(first * averages));
    });
  }

  // the gradient of the first channels, into `out`
  void backward(const Tensor& gradient, const Tensor& features, const Tensor& kept, const Tensor& out) const {
    int64_t area = squares.side * squares.side, averages = area / (squares.pool * squares.pool);
    in_groups(features.size(0) / area, [&](int64_t first, int64_t images) {
      int64_t rows = images * area, c = last.channels;
      Rows<T> x = Rows<T>(features).from(first * area), given = Rows<T>(gradient).from(first * averages);
      Rows<T> found(scratch<FOUND, T>(rows * up(c, 64) + LANES<T>), up(c, 64));  // rows begin with a cache line
      Rows<T> dh(scratch<HIDDEN, T>(rows * hidden + LANES<T>), hidden);
      for (int64_t i = 0; i < images; ++i) norm_pool_gradient<T, false>(squares, i, given, x, last, found, nullptr);
      for (int64_t i = layers.size() - 1; i >= 0; --i) {
        const Layer& layer = layers[i];
        c -= growth;
        Rows<T> h(static_cast<T*>(kept.data_ptr()) + (i * features.size(0) + first * area) * hidden, hidden);
        Blocks one(rows, squares.side, 1), three(rows, squares.side, 3);
        Corrected<T> added(found.from(0, c), growth), inner(dh, hidden);
        for (int64_t b = 0; b < three.count; ++b)
          norm_conv_gradient<T, false, false>(three, b, added, h, layer.norm2, layer.weight2, dh, nullptr);
        for (int64_t b = 0; b < one.count; ++b)
          norm_conv_gradient<T, true, false>(one, b, inner, x, layer.norm1, layer.weight1, found, nullptr);
      }
      Rows<T> to = Rows<T>(out).from(first * area);
      for (int64_t row = 0; row < rows; ++row) std::memcpy(to[row], found[row], sizeof(T) * inputs);
    });
  }
};
