// Features as matrices (pixels, channels), and how the work on them is split: into blocks of rows that fit into a core's
// cache, blocks into chunks, chunks among threads. The sums of the chunks are added in a fixed order, so that results
// depend neither on timing nor on the number of threads.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>  // single headers: including all operations doubles the compile time
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "vectors.h"

namespace aloe_lightning {

using at::Tensor;

constexpr int64_t MAX_CHUNKS = 32;
constexpr int64_t STRIP_ROWS = 128;  // rows of a block of a 1x1 convolution

inline int64_t round_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

template <typename T>
struct Rows {  // the rows of a matrix; the columns of a row are contiguous
  T* data;
  int64_t stride;

  Rows(T* data, int64_t stride) : data(data), stride(stride) {}
  explicit Rows(const Tensor& x) : data(static_cast<T*>(x.data_ptr())), stride(x.stride(0)) {}
  T* operator[](int64_t row) const { return data + row * stride; }
  Rows from(int64_t row, int64_t column = 0) const { return {data + row * stride + column, stride}; }

  // Prefetch columns of the TILE_ROWS rows from `row` on.
  void prefetch(int64_t row, int64_t column, int64_t columns) const {
    for (int64_t m = 0; m < TILE_ROWS; ++m) {
      const T* start = (*this)[row + m] + column;
      for (int64_t c = 0; c < columns; c += 64 / int64_t(sizeof(T))) __builtin_prefetch(start + c, 0, 2);
      __builtin_prefetch(start + columns - 1, 0, 2);
    }
  }
};

// One value for each channel, padded with zeros to whole panels.
template <typename T>
struct ChannelValues {
  std::vector<Sum<T>> values;

  ChannelValues() = default;
  explicit ChannelValues(const Tensor& source) : values(round_up(source.numel(), PANEL_VECTORS * LANES<T>)) {
    std::copy_n(source.const_data_ptr<Sum<T>>(), source.numel(), values.begin());
  }
  const Sum<T>* operator+(int64_t channel) const { return values.data() + channel; }
};

template <typename T>
struct NormReLU {  // relu(x * scale + shift)
  int64_t channels;
  ChannelValues<T> scale, shift;

  NormReLU(const Tensor& scale, const Tensor& shift) : channels(scale.numel()), scale(scale), shift(shift) {}
  Vector<T> operator()(Vector<T> x, int64_t channel) const {
    Vector<T> value = x * load(scale + channel) + load(shift + channel);
    return value > 0 ? value : Vector<T>{};
  }
};

// The blocks of a convolution: whole images if the kernel is larger than a pixel, otherwise strips of rows, which count
// as images with a single line.
struct Blocks {
  int64_t rows, height, width, count;
  int64_t kernel, padding, padded_width;

  Blocks(int64_t rows, int64_t side, int64_t kernel)
      : rows(rows), height(kernel > 1 ? side : 1), width(kernel > 1 ? side : std::min(rows, STRIP_ROWS)),
        count((rows + size() - 1) / size()), kernel(kernel), padding(kernel / 2), padded_width(width + 2 * padding) {}

  int64_t size() const { return height * width; }
  int64_t first_row(int64_t block) const { return block * size(); }
  int64_t width_of(int64_t block) const { return std::min(width, rows - first_row(block)); }  // the last strip is shorter
  int64_t padded_size() const { return (height + 2 * padding) * padded_width; }
};

inline int64_t count_chunks(int64_t blocks) { return std::min(blocks, MAX_CHUNKS); }

// Call work(i) for i < count in parallel; each thread takes the next i that is not taken, so that a slow thread does not
// delay the others.
template <typename F>
void parallel_dynamic(int64_t count, F work) {
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t, int64_t) {
    for (int64_t i; (i = next++) < count;) work(i);
  });
}

// Call work(chunk, block) for all blocks.
template <typename F>
void for_each_block(int64_t blocks, F work) {
  int64_t chunks = count_chunks(blocks);
  parallel_dynamic(chunks, [&](int64_t chunk) {
    for (int64_t block = chunk * blocks / chunks; block < (chunk + 1) * blocks / chunks; ++block) work(chunk, block);
  });
}

// Memory that a thread keeps between calls, aligned to cache lines; one area for each purpose.
enum Purpose { INPUT, OUTPUT_GRADIENT, LEFT, RIGHT, BUFFER_GRADIENT, HIDDEN };

template <Purpose PURPOSE, typename T>
T* scratch(int64_t count) {
  struct alignas(64) Line {
    T values[64 / sizeof(T)];
  };
  thread_local std::vector<Line> memory;
  size_t lines = round_up(count, sizeof(Line) / sizeof(T)) * sizeof(T) / sizeof(Line);
  if (memory.size() < lines) memory = std::vector<Line>(lines);
  return memory.data()->values;
}

}  // namespace aloe_lightning
