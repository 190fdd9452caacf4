// Features as rows (pixels, channels), and how work on them is split: into blocks of a few rows that a core's cache
// holds, blocks into chunks, chunks among threads. What chunks sum up is added in their order: results depend neither on
// timing nor on the number of threads.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>  // each operation by its own header: all of them take twice the time
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "vectors.h"

using at::Tensor;

constexpr int64_t CHUNKS = 32;
constexpr int64_t STRIP = 128;  // rows of a block of a 1x1 convolution

inline int64_t up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

template <typename T>
struct Rows {  // of a matrix whose columns are neighbours
  T* data;
  int64_t stride;

  Rows(T* data, int64_t stride) : data(data), stride(stride) {}
  explicit Rows(const Tensor& x) : data(static_cast<T*>(x.data_ptr())), stride(x.stride(0)) {}
  T* operator[](int64_t row) const { return data + row * stride; }
  Rows from(int64_t row, int64_t column = 0) const { return {data + row * stride + column, stride}; }

  // Fetch columns of TILE rows that will be read soon.
  void prefetch(int64_t row, int64_t column, int64_t columns) const {
    for (int64_t m = 0; m < TILE; ++m) {
      const T* start = (*this)[row + m] + column;
      for (int64_t c = 0; c < columns; c += 64 / int64_t(sizeof(T))) __builtin_prefetch(start + c, 0, 2);
      __builtin_prefetch(start + columns - 1, 0, 2);
    }
  }
};

// A value for each channel, and zeros up to a whole panel.
template <typename T>
struct ByChannel {
  std::vector<Sum<T>> values;

  ByChannel() = default;
  explicit ByChannel(const Tensor& given) : values(up(given.numel(), PANEL * LANES<T>)) {
    std::copy_n(given.const_data_ptr<Sum<T>>(), given.numel(), values.begin());
  }
  const Sum<T>* operator+(int64_t channel) const { return values.data() + channel; }
};

template <typename T>
struct Norm {  // relu(x * scale + shift)
  int64_t channels;
  ByChannel<T> scale, shift;

  Norm(const Tensor& scale, const Tensor& shift) : channels(scale.numel()), scale(scale), shift(shift) {}
  Vector<T> operator()(Vector<T> x, int64_t channel) const {
    Vector<T> value = x * load(scale + channel) + load(shift + channel);
    return value > 0 ? value : Vector<T>{};
  }
};

// The blocks of a convolution: whole images if it looks beyond a pixel, else strips of rows that count as one line.
struct Blocks {
  int64_t rows, height, width, count;
  int64_t kernel, pad, line;  // a line of a block with its margins

  Blocks(int64_t rows, int64_t side, int64_t kernel)
      : rows(rows), height(kernel > 1 ? side : 1), width(kernel > 1 ? side : std::min(rows, STRIP)),
        count((rows + size() - 1) / size()), kernel(kernel), pad(kernel / 2), line(width + 2 * pad) {}

  int64_t size() const { return height * width; }
  int64_t first(int64_t block) const { return block * size(); }
  int64_t wide(int64_t block) const { return std::min(width, rows - first(block)); }  // of its lines
  int64_t positions() const { return (height + 2 * pad) * line; }                     // with margins
};

inline int64_t chunks_of(int64_t blocks) { return std::min(blocks, CHUNKS); }

// work(i) of i < count, each thread the next one that is left: what slows one down does not hold up the others.
template <typename F>
void in_turn(int64_t count, F work) {
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t, int64_t) {
    for (int64_t i; (i = next++) < count;) work(i);
  });
}

// work(chunk, block) of all blocks
template <typename F>
void in_chunks(int64_t blocks, F work) {
  int64_t chunks = chunks_of(blocks);
  in_turn(chunks, [&](int64_t chunk) {
    for (int64_t block = chunk * blocks / chunks; block < (chunk + 1) * blocks / chunks; ++block) work(chunk, block);
  });
}

// Memory that a thread keeps from call to call, from the start of a cache line; one for each WHAT.
enum What { INPUT, GRADIENT, LEFT, RIGHT, FOUND, HIDDEN };

template <What WHAT, typename T>
T* scratch(int64_t count) {
  struct alignas(64) Line {
    T values[64 / sizeof(T)];
  };
  thread_local std::vector<Line> memory;
  size_t lines = up(count, sizeof(Line) / sizeof(T)) * sizeof(T) / sizeof(Line);
  if (memory.size() < lines) memory = std::vector<Line>(lines);
  return memory.data()->values;
}
