// A dense block of a frozen net in eval mode: images are independent of each other, so that one thread takes an image
// through all layers while it is in the core's cache.
#pragma once

#include <tuple>

#include "pooling.h"

namespace aloe_lightning {

constexpr int64_t GROUP_PIXELS = 1024;  // of the images that a thread takes together

template <typename T>
struct FrozenBlock {
  struct Layer {
    NormReLU<T> norm1, norm2;
    Weight<T> weight1, weight2;
  };
  std::vector<Layer> layers;
  NormReLU<T> last;
  PoolingWindows windows;
  int64_t inputs, growth, hidden;

  // affines: scale and shift of the norms in order; weights: packed, conv1 and conv2 of each layer
  FrozenBlock(int64_t inputs, at::TensorList affines, at::TensorList weights, int64_t side, int64_t pool, bool backward)
      : last(affines[affines.size() - 2], affines.back()), windows{side, pool}, inputs(inputs),
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

  // Call work(first image, number of images) for groups of images in parallel.
  template <typename F>
  void for_each_group(int64_t images, F work) const {
    int64_t group = std::max<int64_t>(1, GROUP_PIXELS / (windows.side * windows.side));
    parallel_dynamic((images + group - 1) / group,
                     [&](int64_t i) { work(i * group, std::min(group, images - i * group)); });
  }

  static void forward(const Tensor& features, int64_t inputs, at::TensorList affines, at::TensorList weights, int64_t side,
                      int64_t pool, const Tensor& hidden, const Tensor& out) {
    FrozenBlock(inputs, affines, weights, side, pool, false).run_forward(features, hidden, out);
  }
  static void backward(const Tensor& features, const Tensor& gradient, at::TensorList affines, at::TensorList weights,
                       int64_t side, int64_t pool, const Tensor& hidden, const Tensor& out) {
    FrozenBlock(out.size(1), affines, weights, side, pool, true).run_backward(gradient, features, hidden, out);
  }

 private:
  // `features` (M, all channels) holds the inputs and gets the other channels; `hidden_features` (layers, M, hidden) gets
  // the outputs of the first convolutions, unless it is (1, 0, hidden).
  void run_forward(const Tensor& features, const Tensor& hidden_features, const Tensor& out) const {
    int64_t area = windows.side * windows.side, averages = area / (windows.pool * windows.pool);
    bool keep = hidden_features.size(1) > 0;
    for_each_group(features.size(0) / area, [&](int64_t first, int64_t images) {
      int64_t rows = images * area, c = inputs;
      Rows<T> x = Rows<T>(features).from(first * area);
      for (size_t i = 0; i < layers.size(); ++i, c += growth) {
        const Layer& layer = layers[i];
        T* h = keep ? static_cast<T*>(hidden_features.data_ptr()) + (i * features.size(0) + first * area) * hidden
                    : scratch<HIDDEN, T>(rows * hidden + LANES<T>);
        Blocks blocks1(rows, windows.side, 1), blocks3(rows, windows.side, 3);
        for (int64_t b = 0; b < blocks1.count; ++b) norm_conv<T>(blocks1, b, x, layer.norm1, layer.weight1, {h, hidden});
        for (int64_t b = 0; b < blocks3.count; ++b)
          norm_conv<T>(blocks3, b, {h, hidden}, layer.norm2, layer.weight2, x.from(0, c));
      }
      for (int64_t i = 0; i < images; ++i)
        norm_pool<T>(windows, i, x, last, Rows<T>(out).from(first * averages));
    });
  }

  // Write the gradient of the inputs to `out`.
  void run_backward(const Tensor& gradient, const Tensor& features, const Tensor& hidden_features, const Tensor& out) const {
    int64_t area = windows.side * windows.side, averages = area / (windows.pool * windows.pool);
    for_each_group(features.size(0) / area, [&](int64_t first, int64_t images) {
      int64_t rows = images * area, c = last.channels;
      Rows<T> x = Rows<T>(features).from(first * area), pooled = Rows<T>(gradient).from(first * averages);
      // Each row starts with a cache line.
      Rows<T> dx(scratch<BUFFER_GRADIENT, T>(rows * round_up(c, 64) + LANES<T>), round_up(c, 64));
      Rows<T> dh(scratch<HIDDEN, T>(rows * hidden + LANES<T>), hidden);
      for (int64_t i = 0; i < images; ++i) norm_pool_gradient<T, false>(windows, i, pooled, x, last, dx, nullptr);
      for (int64_t i = layers.size() - 1; i >= 0; --i) {
        const Layer& layer = layers[i];
        c -= growth;
        Rows<T> h(static_cast<T*>(hidden_features.data_ptr()) + (i * features.size(0) + first * area) * hidden, hidden);
        Blocks blocks1(rows, windows.side, 1), blocks3(rows, windows.side, 3);
        BatchNormGradient<T> new_gradient(dx.from(0, c), growth), hidden_gradient(dh, hidden);
        for (int64_t b = 0; b < blocks3.count; ++b)
          norm_conv_gradient<T, false, false>(blocks3, b, new_gradient, h, layer.norm2, layer.weight2, dh, nullptr);
        for (int64_t b = 0; b < blocks1.count; ++b)
          norm_conv_gradient<T, true, false>(blocks1, b, hidden_gradient, x, layer.norm1, layer.weight1, dx, nullptr);
      }
      Rows<T> to = Rows<T>(out).from(first * area);
      for (int64_t row = 0; row < rows; ++row) std::memcpy(to[row], dx[row], sizeof(T) * inputs);
    });
  }
};

}  // namespace aloe_lightning
