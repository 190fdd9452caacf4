// The operations of a net in training: one layer of the whole batch at a time, because BatchNorm needs the statistics of
// all images.
#pragma once

#include <tuple>

#include "moments.h"
#include "pooling.h"
#include "weight_gradient.h"

namespace aloe_lightning {

template <typename T>
struct TrainingOps {
  static Tensor norm_conv(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& weight, int64_t kernel,
                          int64_t side, const Tensor& out) {
    Rows<T> from(x), to(out);
    NormReLU<T> norm(scale, shift);
    Weight<T> packed(weight, x.size(1), out.size(1), kernel);
    Blocks blocks(x.size(0), side, kernel);
    std::vector<Moments> moments(count_chunks(blocks.count), Moments(packed.outputs));
    for_each_block(blocks.count, [&](int64_t chunk, int64_t block) {
      aloe_lightning::norm_conv(blocks, block, from, norm, packed, to);
      moments[chunk].add(to, blocks.first_row(block), blocks.height * blocks.width_of(block));
    });
    return Moments::combine(moments);
  }

  static std::tuple<Tensor, Tensor> norm_conv_backward(const Tensor& gradient, const Tensor& features,
                                                       const Tensor& terms, const Tensor& x, const Tensor& scale,
                                                       const Tensor& shift, const Tensor& weight, int64_t kernel,
                                                       int64_t side, const Tensor& input_gradient, bool add,
                                                       bool needs_weight_gradient) {
    BatchNormGradient<T> output_gradient(gradient, features, terms);
    Rows<T> from(x), to(input_gradient);
    NormReLU<T> norm(scale, shift);
    Weight<T> packed(weight, output_gradient.channels, norm.channels, kernel);
    Blocks blocks(x.size(0), side, kernel);
    WeightGradient<T> weight_gradient{norm.channels, output_gradient.channels, kernel};
    std::vector<ChannelSums<T>> sums(count_chunks(blocks.count), ChannelSums<T>(norm.channels));
    Tensor weight_sums =
        needs_weight_gradient ? at::zeros({count_chunks(blocks.count), weight_gradient.size()}, scale.options()) : Tensor();
    Sum<T>* weight_data = needs_weight_gradient ? weight_sums.data_ptr<Sum<T>>() : nullptr;
    auto block_gradient = add ? norm_conv_gradient<T, true, true> : norm_conv_gradient<T, false, true>;
    for_each_block(blocks.count, [&](int64_t chunk, int64_t block) {
      const T* padded = block_gradient(blocks, block, output_gradient, from, norm, packed, to, &sums[chunk]);
      if (needs_weight_gradient)
        weight_gradient.add(blocks, padded, padded_activations(blocks, block, from, norm),
                            weight_data + chunk * weight_gradient.size());
    });
    return {ChannelSums<T>::combine(sums), needs_weight_gradient ? weight_gradient.combine(weight_sums) : Tensor()};
  }

  static void norm_pool(const Tensor& x, const Tensor& scale, const Tensor& shift, int64_t side, int64_t pool,
                        const Tensor& out) {
    Rows<T> from(x), to(out);
    NormReLU<T> norm(scale, shift);
    for_each_block(x.size(0) / (side * side), [&](int64_t, int64_t image) {
      aloe_lightning::norm_pool(PoolingWindows{side, pool}, image, from, norm, to);
    });
  }

  static Tensor norm_pool_backward(const Tensor& gradient, const Tensor& x, const Tensor& scale, const Tensor& shift,
                                   int64_t side, int64_t pool, const Tensor& input_gradient) {
    Rows<T> output_gradient(gradient), from(x), to(input_gradient);
    NormReLU<T> norm(scale, shift);
    int64_t images = x.size(0) / (side * side);
    std::vector<ChannelSums<T>> sums(count_chunks(images), ChannelSums<T>(norm.channels));
    for_each_block(images, [&](int64_t chunk, int64_t image) {
      norm_pool_gradient<T, true>(PoolingWindows{side, pool}, image, output_gradient, from, norm, to, &sums[chunk]);
    });
    return ChannelSums<T>::combine(sums);
  }

  static Tensor moments(const Tensor& x) {
    Rows<T> from(x);
    Blocks blocks(x.size(0), 1, 1);
    std::vector<Moments> parts(count_chunks(blocks.count), Moments(x.size(1)));
    for_each_block(blocks.count, [&](int64_t chunk, int64_t block) {
      parts[chunk].add(from, blocks.first_row(block), blocks.width_of(block));
    });
    return Moments::combine(parts);
  }

  static void add_batchnorm_terms(const Tensor& gradient, const Tensor& features, const Tensor& terms, const Tensor& out) {
    BatchNormGradient<T> from(gradient, features, terms);
    Rows<T> to(out);
    at::parallel_for(0, gradient.size(0), STRIP_ROWS, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        for (int64_t c = 0; c < from.channels; c += LANES<T>) store(from.at(row, c), to[row] + c, from.channels - c);
    });
  }
};

}  // namespace aloe_lightning
