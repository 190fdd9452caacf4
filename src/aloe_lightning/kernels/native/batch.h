// The operations of a net that learns: one layer, the whole batch, because BatchNorm needs the statistics of all.
#pragma once

#include <tuple>

#include "moments.h"
#include "pool.h"
#include "weight_gradient.h"

template <typename T>
struct Batch {
  static Tensor norm_conv(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& weight, int64_t kernel,
                          int64_t side, const Tensor& out) {
    Rows<T> from(x), to(out);
    Norm<T> norm(scale, shift);
    Weight<T> packed(weight, x.size(1), out.size(1), kernel);
    Blocks blocks(x.size(0), side, kernel);
    std::vector<Moments> moments(chunks_of(blocks.count), Moments(packed.outputs));
    in_chunks(blocks.count, [&](int64_t chunk, int64_t block) {
      ::norm_conv(blocks, block, from, norm, packed, to);
      moments[chunk].add(to, blocks.first(block), blocks.height * blocks.wide(block));
    });
    return Moments::added(moments);
  }

  static std::tuple<Tensor, Tensor> norm_conv_backward(const Tensor& gradient, const Tensor& features,
                                                       const Tensor& correction, const Tensor& x, const Tensor& scale,
                                                       const Tensor& shift, const Tensor& weight, int64_t kernel,
                                                       int64_t side, const Tensor& into, bool add, bool learns) {
    Corrected<T> given(gradient, features, correction);
    Rows<T> from(x), to(into);
    Norm<T> norm(scale, shift);
    Weight<T> packed(weight, given.channels, norm.channels, kernel);
    Blocks blocks(x.size(0), side, kernel);
    WeightGradient<T> learnt{norm.channels, given.channels, kernel};
    std::vector<Totals<T>> totals(chunks_of(blocks.count), Totals<T>(norm.channels));
    Tensor parts = learns ? at::zeros({chunks_of(blocks.count), learnt.size()}, scale.options()) : Tensor();
    Sum<T>* sums = learns ? parts.data_ptr<Sum<T>>() : nullptr;
    auto block_gradient = add ? norm_conv_gradient<T, true, true> : norm_conv_gradient<T, false, true>;
    in_chunks(blocks.count, [&](int64_t chunk, int64_t block) {
      const T* margins = block_gradient(blocks, block, given, from, norm, packed, to, &totals[chunk]);
      if (learns) learnt.add(blocks, margins, activated(blocks, block, from, norm), sums + chunk * learnt.size());
    });
    return {Totals<T>::added(totals), learns ? learnt.added(parts) : Tensor()};
  }

  static void norm_pool(const Tensor& x, const Tensor& scale, const Tensor& shift, int64_t side, int64_t pool,
                        const Tensor& out) {
    Rows<T> from(x), to(out);
    Norm<T> norm(scale, shift);
    in_chunks(x.size(0) / (side * side), [&](int64_t, int64_t image) {
      ::norm_pool(Squares{side, pool}, image, from, norm, to);
    });
  }

  static Tensor norm_pool_backward(const Tensor& gradient, const Tensor& x, const Tensor& scale, const Tensor& shift,
                                   int64_t side, int64_t pool, const Tensor& into) {
    Rows<T> given(gradient), from(x), to(into);
    Norm<T> norm(scale, shift);
    int64_t images = x.size(0) / (side * side);
    std::vector<Totals<T>> totals(chunks_of(images), Totals<T>(norm.channels));
    in_chunks(images, [&](int64_t chunk, int64_t image) {
      norm_pool_gradient<T, true>(Squares{side, pool}, image, given, from, norm, to, &totals[chunk]);
    });
    return Totals<T>::added(totals);
  }

  static Tensor moments(const Tensor& x) {
    Rows<T> from(x);
    Blocks blocks(x.size(0), 1, 1);
    std::vector<Moments> parts(chunks_of(blocks.count), Moments(x.size(1)));
    in_chunks(blocks.count, [&](int64_t chunk, int64_t block) {
      parts[chunk].add(from, blocks.first(block), blocks.wide(block));
    });
    return Moments::added(parts);
  }

  static void corrected(const Tensor& gradient, const Tensor& features, const Tensor& correction, const Tensor& out) {
    Corrected<T> from(gradient, features, correction);
    Rows<T> to(out);
    at::parallel_for(0, gradient.size(0), STRIP, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        for (int64_t c = 0; c < from.channels; c += LANES<T>) store(from.at(row, c), to[row] + c, from.channels - c);
    });
  }
};
